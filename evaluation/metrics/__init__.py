"""Figures of a router: curves, intervals, reports."""
