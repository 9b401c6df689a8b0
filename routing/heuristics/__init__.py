"""The heuristic router and the features that it reads from a text."""
