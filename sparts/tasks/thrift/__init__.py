"""Thrift as tasks: handlers, which have the methods of a service, and servers for them."""

from sparts.tasks.thrift.handler import ThriftHandlerTask
from sparts.tasks.thrift.nbserver import NBServerTask
from sparts.tasks.thrift.server import ThriftServerTask
from sparts.thrift.server.calls import Client, current_client

__all__ = ["Client", "NBServerTask", "ThriftHandlerTask", "ThriftServerTask", "current_client"]
