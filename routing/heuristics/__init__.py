"""The heuristic router and what it reads in a text."""
