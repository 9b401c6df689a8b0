"""Reads, validates and submits input as batches."""
