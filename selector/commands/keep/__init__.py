"""The commands for what is kept on disk: backends, converted models, launches, and the matrix of them."""
