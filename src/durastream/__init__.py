"""Durable streams: an embedded storage engine, a server and a command line."""

__version__ = "0.1.0"
