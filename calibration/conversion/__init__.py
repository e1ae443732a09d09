"""What is converted once for a model and kept: the artifact store, the conversions and what they will take."""
