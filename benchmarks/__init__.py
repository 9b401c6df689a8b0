"""Measurements, each a ratio of two sides in one run. Not tests: nothing here passes or fails by the clock."""
