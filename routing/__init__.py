"""The pure core: the rules by which a query finds its tier.

Nothing here does IO, reads a clock or draws a random number; nothing here imports
another of our packages or a third party. Offline evaluation and replay therefore run
exactly what production runs.
"""
