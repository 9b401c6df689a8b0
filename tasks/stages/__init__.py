"""The stages of a query, one module each."""
