"""How an answer compares with the top tier's."""

from routing.query import Expectation


def agreement(answer: str, reference: str, *, expects: Expectation) -> float:
    """1 where both say the same."""
    return float(answer.strip() == reference.strip())
