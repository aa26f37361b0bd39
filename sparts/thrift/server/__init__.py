"""The Thrift server engine: it knows sockets, bytes and handlers, and no task."""
