"""Postgres, the source of truth: all SQL of the project. Of the project it imports ``routing`` alone."""
