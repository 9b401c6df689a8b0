"""One adapter for each provider protocol."""
