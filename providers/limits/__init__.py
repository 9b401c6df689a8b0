"""Rate and concurrency limits, and admission control."""
