"""The work behind the training commands."""
