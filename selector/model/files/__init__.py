"""The files that describe a model: of a folder, of the hub, a .gguf file, or a shape of the library."""
