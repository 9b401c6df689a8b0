"""Trained routers: which version serves, and how running workers load it."""
