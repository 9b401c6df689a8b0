"""The cost of a query, and what to do if a budget is too small."""
