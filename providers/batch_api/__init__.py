"""Providers' batch APIs: many calls bought at once, at a lower price and with a delay (lane ``batch``)."""
