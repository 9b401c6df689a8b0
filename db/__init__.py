"""Postgres, the source of truth: all SQL of the project. Of the project's packages it imports only ``routing``."""
