"""The reply of a simulated verifier: whether a proposed answer is right, by what the simulator knows of it.

A request is taken for a verification by its form: a question and a proposed answer between marks.
"""

import re
from math import log
from typing import Final, NamedTuple

from simulator.chat_types import ChatReply, ChatRequest
from simulator.model_strength import LEVELS, strength_of
from simulator.query_difficulty import hidden
from simulator.recordings import Recordings, recording_of
from simulator.seeded_random import seeded_random, text_digest

ERROR: Final = 0.15
"""The share of verdicts that are wrong. Invented for the simulation, not measured on any model."""

_SIGN: Final = "Proposed answer:\n<<<\n"
_PARTS: Final = re.compile(r"Question:\n<<<\n(.*)\n>>>\n\nProposed answer:\n<<<\n(.*)\n>>>\n\n", re.DOTALL)
_LABEL: Final = re.compile(r"\[simulated ([^\]]+)\]")


class ProposedAnswer(NamedTuple):
    """What a verifier is asked about."""

    question: str
    answer: str


def proposal_in(text: str) -> ProposedAnswer | None:
    """The question and the answer that ``text`` asks about; None where it asks something else."""
    # The plain search first: nearly no text asks for a verdict, and the pattern is slow on long ones.
    found = _PARTS.search(text) if _SIGN in text else None
    return None if found is None else ProposedAnswer(found[1].strip(), found[2].strip())


def verdict(ask: ChatRequest, *, seed: bytes, recordings: Recordings) -> ChatReply | None:
    """Yes or no, or a number of percent where one is asked for; None where ``ask`` is not a verification."""
    proposal = proposal_in(ask.text)
    if proposal is None:
        return None
    chance = seeded_random(seed, b"verifier", ask.model.encode("utf-8", "surrogatepass"), text_digest(ask.text))
    right = is_right(proposal, seed=seed, recordings=recordings)
    says_right = chance[0] < 0.5 if right is None else right != (chance[0] < ERROR)
    sure = 0.6 + 0.38 * chance[1]
    if "percent" in ask.text[-200:]:
        text = str(round(100 * (sure if says_right else 1 - sure)))
    else:
        text = "Yes" if says_right else "No"
    return ChatReply(
        text, prompt_tokens=ask.prompt_tokens, completion_tokens=1, mean_logprob=log(sure), name=chance.name
    )


def is_right(proposal: ProposedAnswer, *, seed: bytes, recordings: Recordings) -> bool | None:
    """By the recording that it is, or by the strength of the model that signs it; None where neither is known."""
    if (recorded := recording_of(proposal.question, proposal.answer, recordings)) is not None:
        return recorded.correct
    signed = _LABEL.match(proposal.answer)
    if signed is None:
        return None
    hardness = hidden(proposal.question, draw=seeded_random(seed, text_digest(proposal.question))[0])
    return LEVELS[strength_of(signed[1])] >= hardness
