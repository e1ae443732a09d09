"""The API: what is asked of the server over HTTP, how answers and errors are written, and where it listens."""
