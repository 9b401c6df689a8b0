"""Checks of an answer, and its confidence."""
