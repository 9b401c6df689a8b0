"""The files that run Pointsman in containers, rendered from a fleet."""
