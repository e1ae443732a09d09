"""An engine's own server as an upstream: its program, what is sent to it, and what its answers say."""

from selector.serve.own_server.upstream import OwnServerUpstream as OwnServerUpstream
