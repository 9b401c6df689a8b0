"""What a word is a sign of, each a plain number.

A module and no enum: the gate looks up a dozen of them for each query, and an attribute of a module is found at once.
"""

from typing import Final

CODE: Final = 0
MATHS: Final = 1
LENGTH: Final = 2
"""A unit in which the length of an answer is given."""
ROUTER: Final = 3
"""Speaks of the machinery that routes queries."""
BAIT: Final = 4
"""Says how a query should be treated; together with a ROUTER word it addresses the router."""
KEYWORD: Final = 5
"""A programming language's keyword; whether it is code shows in what is around it."""
FOREIGN: Final = 6
"""Names a language, or asks for a translation."""
EN: Final = 7
DE: Final = 8
FR: Final = 9
ES: Final = 10
IT: Final = 11
PT: Final = 12
NL: Final = 13
