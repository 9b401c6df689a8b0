"""What a batch is expected to cost and how long it takes."""
