"""The expected cost and duration of a batch."""
