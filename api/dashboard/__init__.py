"""The dashboard's data, and its transport to the browser."""
