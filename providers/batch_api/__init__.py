"""Providers' batch APIs: many calls bought at once, cheaper and later (lane ``batch``)."""
