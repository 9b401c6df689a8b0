"""Renders a `BatchReport` as an HTML page or as Markdown. Reads no database."""
