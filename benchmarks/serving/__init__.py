"""What the engines gain when they serve several requests at once: figures of the streams, without a server."""
