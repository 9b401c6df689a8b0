"""Lanes: queries of a batch with a deadline are bought in provider batches, in waves."""
