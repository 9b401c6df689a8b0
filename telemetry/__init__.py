"""Logging and traces."""
