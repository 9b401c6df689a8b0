"""From bytes to a batch: reads, validates and submits input."""
