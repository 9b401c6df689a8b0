"""How a sample's answers compare with the top tier's: one grader for a batch, by what it expects or how it answers."""

from collections.abc import Sequence

from evaluation.graders.grader_choice import choose_grader
from evaluation.graders.text_graders import GraderKind, grader
from tasks.pilot.sample import SampledQuery


def grade_sample(sample: Sequence[SampledQuery]) -> tuple[list[list[float]], dict[str, int]]:
    """The grade of each answer of each query, in ladder order, 0 to 1; and how many queries each grader graded.

    The top tier's answer is the reference and has 1; an empty answer, which no validator passed, has 0.
    """
    kind = _by_text(
        choose_grader([query.answers[-1].text for query in sample], expects=[query.expects for query in sample])
    )
    compare = grader(kind)
    grades = [
        [*(compare(lower.text, query.answers[-1].text) if lower.text else 0.0 for lower in query.answers[:-1]), 1.0]
        for query in sample
    ]
    return grades, {kind.value: len(sample)}


def _by_text(kind: GraderKind) -> GraderKind:
    """Where only a judge could tell, the share of common words: it understates agreement and certifies too little."""
    return GraderKind.TOKEN_F1 if kind in (GraderKind.JUDGE, GraderKind.COMMAND, GraderKind.GOLD) else kind
