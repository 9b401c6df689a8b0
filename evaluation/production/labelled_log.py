"""The labeled part of the log as arrays: the decisions and their outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np

from evaluation.data.array_types import Floats, Ints, Truths
from evaluation.data.cross_validation import numbered
from evaluation.data.dataset_errors import EvaluationError
from evaluation.production.off_policy import Log, NoSupport, value
from routing.fleet import Fleet
from routing.policy.routing_case import RoutingContext
from routing.query import Query


@dataclass(frozen=True, slots=True)
class LabelledDecision:
    """One labeled query. The *chosen* tier is where routing sent it, which need not be the one whose answer stood."""

    id: int
    query: Query = field(repr=False)
    chosen: str
    propensity: float
    stood: str
    grade: float
    """The grade of the final answer, 0 to 1."""
    chosen_grade: float | None
    """The grade of the chosen tier's own answer, if it was labeled."""
    cost_usd: float
    """The cost of all the query's calls, rejected ones included."""


@dataclass(frozen=True, slots=True)
class LabelledLog:
    """Labelled queries that were routed to a tier of the ladder; n rows, K tiers from the cheapest up."""

    tiers: tuple[str, ...]
    queries: tuple[Query, ...] = field(repr=False)
    chosen: Ints = field(repr=False)
    propensity: Floats = field(repr=False)
    grade: Floats = field(repr=False)
    well: Floats = field(repr=False)
    """The grade of the chosen tier's own answer. 0 if the answer was rejected and not labeled."""
    cost_usd: Floats = field(repr=False)
    bound: Truths = field(repr=False)
    """Whether no policy could have routed the query elsewhere: it is pinned, or fits one tier only."""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def lengths(self) -> Floats:
        """Characters of each query's text."""
        return np.array([len(query.text) for query in self.queries], dtype=np.float64)

    def where(self, wanted: Truths) -> "LabelledLog":
        """The rows for which ``wanted``, shape (n,), is true."""
        return LabelledLog(
            self.tiers,
            tuple(compress(self.queries, wanted)),
            self.chosen[wanted],
            self.propensity[wanted],
            self.grade[wanted],
            self.well[wanted],
            self.cost_usd[wanted],
            self.bound[wanted],
        )

    @property
    def explored(self) -> Truths:
        """Whether the tier was chosen partly at random, shape (n,)."""
        return self.propensity < 1.0

    def informative_rows(self) -> "LabelledLog":
        """Rows that are evidence on any policy: explored, or bound to their tier. Raises NoSupport with none explored.

        What went its way without either, by a fleet that did not explore or by a budget, is evidence on that way alone.
        """
        if not self.explored.any():
            raise NoSupport(
                f"none of the {len(self):,} labeled queries was explored, so the log does not show how another "
                "tier would have answered them. fix: set router.exploration in the fleet, run and label more"
            )
        return self.where(self.explored | self.bound)

    def log(self, features: Floats | None = None) -> Log:
        """For off-policy estimates. ``features``, shape (n, any), join the queries' lengths in the outcome model."""
        lengths = np.log1p(self.lengths)[:, None]
        return Log(
            self.tiers,
            self.chosen,
            self.propensity,
            lengths if features is None else np.hstack([lengths, features]),
            numbered([query.text for query in self.queries]),
        )

    def top_usd(self) -> float:
        """The cost of a call to the top tier, by the explored queries. Raises NoSupport if it is unknown."""
        book = self.where(self.explored)
        log = book.log()
        top_usd = value(log, log.always(len(self.tiers) - 1), book.cost_usd, draws=20).snips
        if top_usd <= 0:
            raise NoSupport("the top tier costs nothing here, so a cost has no unit. fix: give its models a price")
        return top_usd

    def loss(self, *, quality_weight: float, top_usd: float) -> Floats:
        """``cost + λ · (1 − grade)`` of each query, the cost in calls to the top tier: see `expected_loss`."""
        return self.cost_usd / top_usd + quality_weight * (1.0 - self.grade)


def log_book(rows: Sequence[LabelledDecision], fleet: Fleet) -> LabelledLog:
    """``rows`` whose chosen tier is on the fleet's ladder. Raises EvaluationError where there is none."""
    place = {tier: at for at, tier in enumerate(fleet.ladder)}
    kept = [row for row in rows if row.chosen in place]
    if not kept:
        raise EvaluationError(
            "no labeled query was routed to a tier of this fleet. fix: label some with `pointsman label BATCH "
            "--from FILE`"
        )
    return LabelledLog(
        tuple(fleet.ladder),
        tuple(row.query for row in kept),
        np.array([place[row.chosen] for row in kept], dtype=np.int64),
        np.array([row.propensity for row in kept]),
        np.array([row.grade for row in kept]),
        np.array([_well(row) for row in kept]),
        np.array([row.cost_usd for row in kept]),
        _bound([row.query for row in kept], RoutingContext(fleet)),
    )


def _bound(queries: Sequence[Query], context: RoutingContext) -> Truths:
    cases = [context.analyze(query) for query in queries]
    return np.array([case.pin is not None or len(case.room.keys() & set(context.ladder)) < 2 for case in cases])


def _well(row: LabelledDecision) -> float:
    if row.chosen == row.stood:
        return row.grade
    return 0.0 if row.chosen_grade is None else row.chosen_grade
