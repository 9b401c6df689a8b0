"""Postgres, the truth: the only SQL of the project. Imports only ``routing`` of ours."""
