"""An engine that streams tokens as an upstream: the engine in its worker, and its tokens as pieces of text."""
