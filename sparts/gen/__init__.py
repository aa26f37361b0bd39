"""Bindings of interfaces, made by the thrift compiler of the files in thrift/; see setup.py."""
