"""The HTTP engine: sockets, limits and draining under Tornado's public interfaces; no task here."""
