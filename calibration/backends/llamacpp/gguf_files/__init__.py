"""How a Hugging Face folder becomes a GGUF file, and how that is quantised."""
