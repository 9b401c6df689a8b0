"""The pure core: the rules that choose a tier for each query.

Nothing here does IO, reads a clock, draws a random number, or imports another of our packages or a third party. Offline
evaluation and replay therefore run exactly the code that production runs.
"""
