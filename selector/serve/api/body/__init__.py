"""What a request asks for, read from its JSON body and checked."""
