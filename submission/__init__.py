"""From bytes to a batch: reading, checking and submitting input."""
