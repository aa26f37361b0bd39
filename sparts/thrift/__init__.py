"""Thrift: clients, servers' engine, the compiler, and what they know of generated code."""
