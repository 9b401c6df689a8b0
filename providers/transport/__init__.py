"""Outgoing HTTP: the only package that opens connections (docs/decisions/0008-kept-http-transports.md)."""
