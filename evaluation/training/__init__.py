"""Training and threshold tuning."""
