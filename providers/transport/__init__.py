"""Outgoing HTTP: the only package that opens connections (docs/decisions/0012-kept-http-transports.md)."""
