"""The chosen engine as a server: an API like OpenAI's in front of an engine in a process of its own."""
