"""The signs that a word can be, as plain numbers.

This is a module and not an enum because the gate looks up a dozen of them per query, and looking up a module attribute
is faster.
"""

from typing import Final

CODE: Final = 0
MATHS: Final = 1
LENGTH: Final = 2
"""A unit in which the length of an answer is stated."""
ROUTER: Final = 3
"""A word about the machinery that routes queries."""
BAIT: Final = 4
"""A word about how a query should be treated. Together with a ROUTER word it addresses the router."""
KEYWORD: Final = 5
"""A keyword of a programming language. The surrounding text shows whether it is code."""
FOREIGN: Final = 6
"""The name of a language, or a request for a translation."""
EN: Final = 7
DE: Final = 8
FR: Final = 9
ES: Final = 10
IT: Final = 11
PT: Final = 12
NL: Final = 13
