"""What llama.cpp or its converter gets wrong of a model, told from its config.json before anything is converted."""
