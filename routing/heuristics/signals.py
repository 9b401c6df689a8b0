"""What a word is a sign of, each a plain number.

A module and no enum: the gate looks up forty of them for each query, and an attribute of a module is found at once.
"""

from typing import Final

PROOF: Final = 0
"""Asks for a proof or a derivation."""
STRONG: Final = 1
"""Asks for work that takes several steps of thought."""
MILD: Final = 2
"""Asks for an explanation or a judgement."""
BUILD: Final = 3
"""Asks for something to be made or mended; hard where it is about code."""
CODE: Final = 4
MATHS: Final = 5
CONSTRAINT: Final = 6
LENGTH: Final = 7
"""A unit in which the length of an answer is given."""
ROUTER: Final = 8
"""Speaks of the machinery that routes queries."""
BAIT: Final = 9
"""Says how a query should be treated; together with a ROUTER word it speaks to the router."""
PHRASE: Final = 10
"""Part of a phrase that asks for care; the phrase itself is looked for only then."""
KEYWORD: Final = 11
"""A programming language's keyword; whether it is code shows in what is around it."""
FOREIGN: Final = 12
"""Names a language, or asks for a translation."""
EN: Final = 13
DE: Final = 14
FR: Final = 15
ES: Final = 16
IT: Final = 17
PT: Final = 18
NL: Final = 19
