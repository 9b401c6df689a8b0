"""Attacks, each of which once did harm: what a tenant, a web page, a neighbor or a model can try against the service.

`make attack` runs all of them and prints their figures; `make test` leaves out those that are marked `long`. The bounds
are those of a busy machine: what succeeded took many times as long, or never ended.
"""
