"""The numbers that set a model's work, memory and parameter count, from the many ways in which configs tell them."""
