"""What an engine is once it is loaded: generate calls, requests that come and go, or a server of its own."""
