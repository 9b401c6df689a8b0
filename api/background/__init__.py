"""Background jobs of the HTTP service."""
