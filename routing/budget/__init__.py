"""What a query may cost, and what to do where a budget is too small."""
