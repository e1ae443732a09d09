"""Load as a workload: requests that come and go, sent over HTTP to a server, and what their answers took."""
