"""The stages of a query: route, answer, fallback."""
