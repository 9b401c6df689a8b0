"""A request for the same answer in the required form, taken for one by its last sentence."""

from typing import Final

SIGN: Final = "\nThe required form of the answer was not kept: "


def question_of(text: str) -> str | None:
    """The question of a repair request with these texts of the user; None where it is none."""
    question, sign, _ = text.rpartition(SIGN)
    return question.strip() if sign else None
