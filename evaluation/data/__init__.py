"""Data files, folds and call costs."""
