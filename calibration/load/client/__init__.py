"""The load client, a process of its own: when each request is due, what is sent, and when its answer came."""
