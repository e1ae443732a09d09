"""Who is told what becomes of the requests: metrics for Prometheus, and a line for each request."""
