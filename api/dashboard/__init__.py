"""What the dashboard shows, and how it gets there."""
