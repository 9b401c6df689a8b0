"""What a report says, section by section, whatever it is written as."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from db.reports.account import Account, QueryFigures, labelled_right
from report import paint
from report.bars import confidence_histogram, cost_bars, health_strip, latency_histogram
from report.cost_quality import cost_quality
from report.sankey import sankey
from report.table import Table
from report.words import confidence, decider, ms, part, percent, seconds, usd


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and what it is called. ``small`` ones stand side by side."""

    drawing: Element
    caption: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, drawings and tables."""

    name: str
    """Its anchor in a page."""
    title: str
    words: Sequence[str]
    figures: Sequence[Figure] = field(default=())
    tables: Sequence[Table] = field(default=())


def sections(account: Account) -> list[Section]:
    """All of them, in order."""
    return [
        _quality(account),
        _ways(account),
        _tiers(account),
        _models(account),
        _providers(account),
        _judge(account),
        _plan(account),
        _queries("dearest", "The dearest queries", "All calls of a query together.", account.dearest),
        _queries(
            "doubtful",
            "The most doubtful answers",
            "What the judge did not accept and nothing better came for, then the lowest confidences.",
            account.doubtful,
        ),
        _audit(account),
    ]


def _quality(account: Account) -> Section:
    figures = account.figures
    words = [
        "Controls are policies that do not look at the query. Their costs are reckoned for the same answers: "
        "what the tier really charged where it was asked, else the answer's tokens at the price of its first model."
    ]
    drawn: list[Figure] = []
    if account.picture is None:
        words.append(
            "How well each policy had answered is not drawn: the router logged no expectation for these queries."
        )
    else:
        picture = account.picture
        words.append(
            f"Quality in the drawing is not measured. It is what the router expected of each tier, for the "
            f"{picture.queries:,} of {figures.progress.done:,} answered queries of which it logged that; "
            "one yardstick for all, in which the judge's verdicts count for nothing."
        )
        drawn.append(
            Figure(
                cost_quality(picture, account.tiers),
                "Cost and expected quality. Up and to the left is better; the dashed line is every fixed split "
                "between the bottom and the top tier.",
            )
        )
    own = figures.cost_usd
    drawn_too = (*account.picture.alone, *account.picture.mixed) if account.picture else ()
    places = {place.name: place for place in drawn_too}
    rows = [
        [
            "this batch",
            usd(own),
            part(own, figures.baseline_cost_usd),
            percent(account.picture.batch.well) if account.picture else "–",
        ],
        *(
            [
                each.name,
                usd(each.cost_usd),
                part(each.cost_usd, figures.baseline_cost_usd),
                percent(places[each.name].well) if each.name in places else "–",
            ]
            for each in account.controls
        ),
    ]
    expected = "expected well" if account.picture is None else f"expected well, of {account.picture.queries:,}"
    labelled = labelled_right(account.labels)
    if labelled is not None:
        words.append(
            f"Measured by labels: {percent(labelled[1])} of {labelled[0]:,} labelled answers that stood are right. "
            "Nobody labelled what the controls had answered, so they have no such figure."
        )
    columns = ["policy", "cost", f"of always {figures.top_tier}", expected]
    table = Table("This batch and its controls", columns, rows, frozenset({"policy"}))
    return Section("quality", "Cost and quality", words, drawn, [table])


def _ways(account: Account) -> Section:
    figures = account.figures
    tables = [
        Table(
            "The ways that queries went",
            ["decided by", "first tier", "ended at", "outcome", "queries", "share"],
            [
                [
                    decider(route.router) if route.router else "not routed",
                    route.first_tier or "–",
                    route.last_tier or "–",
                    route.outcome + (", escalated" if route.escalated else ""),
                    f"{route.queries:,}",
                    part(route.queries, figures.progress.total),
                ]
                for route in account.routes[:_WAYS]
            ],
            frozenset({"decided by", "first tier", "ended at", "outcome"}),
        )
    ]
    if figures.failures:
        tables.append(
            Table(
                "Queries that ended without an answer, by their last reason",
                ["state", "reason", "queries", "for example"],
                [[why.state, why.reason, f"{why.queries:,}", why.example] for why in figures.failures],
                frozenset({"state", "reason", "for example"}),
            )
        )
    rest = account.routes[_WAYS:]
    words = [
        "Each query's way: who decided, where it went first, which tier had it last, and what came of it. "
        "A band has the colour of the tier."
    ]
    if rest:
        words.append(f"The table leaves out {len(rest)} rarer ways, of {sum(r.queries for r in rest):,} queries.")
    drawing = Figure(sankey(account.routes, account.tiers), "From the decision to the outcome.")
    return Section("ways", "The way of the queries", words, [drawing], tables)


_WAYS: Final = 20


def _tiers(account: Account) -> Section:
    figures = account.figures
    span = (
        min((each.from_ms for each in account.latencies), default=1.0),
        max((each.to_ms for each in account.latencies), default=2.0),
    )
    drawn = [
        Figure(
            latency_histogram(
                tier.tier,
                [each for each in account.latencies if each.tier == tier.tier],
                span,
                paint.of_tier(tier.tier, account.tiers),
                tier.latency_ms,
            ),
            f"{tier.tier}: {tier.calls - tier.failed_calls:,} calls",
            small=True,
        )
        for tier in figures.tiers
        if tier.latency_ms is not None
    ]
    rows = [
        [
            tier.tier,
            f"{tier.queries:,}",
            f"{tier.answered:,}",
            part(tier.answered, figures.progress.done),
            f"{tier.unaccepted:,}",
            confidence(tier.confidence),
            f"{tier.calls:,}",
            f"{tier.failed_calls:,}",
            usd(tier.cost_usd),
            *(map(ms, tier.latency_ms) if tier.latency_ms else ["–"] * 3),
        ]
        for tier in figures.tiers
    ]
    columns = ["tier", "asked", "answers", "share", "doubtful", "confidence", "calls", "failed", "cost"]
    return Section(
        "tiers",
        "Tiers and their latency",
        [
            "Latencies are of complete provider calls, in ms, all tiers on one logarithmic scale."
            + (" They are the simulator's." if figures.progress.simulated else "")
        ],
        drawn,
        [Table("Tiers", [*columns, "p50 ms", "p95 ms", "p99 ms"], rows, frozenset({"tier"}))],
    )


def _models(account: Account) -> Section:
    costs: dict[str, float] = {}
    colours: dict[str, str] = {}
    for each in account.models:
        name = each.deployment if each.purpose != "route" else f"{each.deployment} (routing)"
        costs[name] = costs.get(name, 0.0) + each.cost_usd
        colours.setdefault(name, paint.of_tier(each.tier, account.tiers))
    rows = [
        [
            each.tier,
            each.deployment,
            each.provider,
            each.purpose,
            f"{each.calls:,}",
            f"{each.prompt_tokens:,}",
            f"{each.completion_tokens:,}",
            usd(each.cost_usd),
            part(each.cost_usd, account.figures.cost_usd),
            ms(each.p95_ms),
        ]
        for each in account.models
    ]
    columns = ["tier", "model", "provider", "purpose", "calls", "tokens in", "tokens out", "cost", "share", "p95 ms"]
    words = ["The colour is the tier's. A call without a known outcome counts at its reservation, the worst case."]
    if account.figures.open_calls:
        words.append(f"{account.figures.open_calls:,} calls have no outcome yet.")
    return Section(
        "models",
        "Where the money went",
        words,
        [Figure(cost_bars(costs, colours), "Cost by model.")] if costs else [],
        [Table("Models", columns, rows, frozenset({"tier", "model", "provider", "purpose"}))] if rows else [],
    )


def _providers(account: Account) -> Section:
    providers = sorted({slot.provider for slot in account.health})
    most = max((slot.calls for slot in account.health), default=1)
    drawn = [
        Figure(
            health_strip(provider, [slot for slot in account.health if slot.provider == provider], most),
            f"{provider}: {sum(s.calls for s in account.health if s.provider == provider):,} calls, "
            f"{sum(s.failed for s in account.health if s.provider == provider):,} failed",
        )
        for provider in providers
    ]
    words = ["No call was made."]
    if account.health_began is not None:
        words = [
            f"The {seconds(account.health_took_s)} from the first call, {account.health_began:%Y-%m-%d %H:%M:%S} UTC, "
            "to the last, in equal parts. Failed calls stand below the line."
        ]
    tables = []
    if account.failing:
        over = sum(each.failed_over for each in account.failing)
        words.append(
            f"{account.figures.failed_calls:,} calls failed; after {over:,} of them another model of the tier "
            "was asked."
        )
        tables.append(
            Table(
                "Failed calls, and what was done after",
                ["model", "failure", "calls", "asked again", "failed over", "went to"],
                [
                    [
                        each.deployment,
                        each.outcome.replace("_", " "),
                        f"{each.calls:,}",
                        f"{each.tried_again:,}",
                        f"{each.failed_over:,}",
                        ", ".join(each.went_to) or "–",
                    ]
                    for each in account.failing
                ],
                frozenset({"model", "failure", "went to"}),
            )
        )
    elif account.health:
        words.append("No call failed.")
    return Section("providers", "Providers and failovers", words, drawn, tables)


def _judge(account: Account) -> Section:
    answers = sum(each.answers for each in account.confidences)
    told = sum(each.answers for each in account.confidences if each.tenth is not None)
    words = [
        f"The judge tells a confidence for {told:,} of {answers:,} answers: from a trained scorer or from the model's "
        "token probabilities. A model that tells none is judged by the validators alone."
    ]
    tables = [
        Table(
            "Answers by confidence",
            ["confidence", "answers", "of them not accepted"],
            [
                [
                    "not told" if tenth is None else f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}",
                    f"{sum(each.answers for each in account.confidences if each.tenth == tenth):,}",
                    f"{sum(each.unaccepted for each in account.confidences if each.tenth == tenth):,}",
                ]
                for tenth in sorted({b.tenth for b in account.confidences}, key=lambda t: 10 if t is None else t)
            ],
            frozenset({"confidence"}),
        )
    ]
    if account.rejections:
        tables.append(
            Table(
                "Why answers were rejected; one can have several reasons",
                ["tier", "reason", "answers"],
                [[each.tier, each.reason.replace("_", " "), f"{each.answers:,}"] for each in account.rejections],
                frozenset({"tier", "reason"}),
            )
        )
    if not answers:
        return Section("judge", "The judge", ["There is no answer yet."])
    drawing = Figure(confidence_histogram(account.confidences, account.tiers), "Answers by the judge's confidence.")
    return Section("judge", "The judge", words, [drawing], tables)


def _plan(account: Account) -> Section:
    cap = f"Its budget is {usd(account.cap_usd)}." if account.cap_usd is not None else "It has no budget of its own."
    plan = account.plan
    if plan is None:
        return Section("plan", "Plan against actual", ["There was no plan: the batch was submitted without one.", cap])
    told = {
        "cost": (plan["cost_usd"], usd),
        "time": (plan["wall_s"], seconds),
        f"all {account.figures.top_tier}": (plan["baseline_cost_usd"], usd),
        "escalated": (plan["escalated"], _count),
        **{f"answers of {tier}": (beside, _count) for tier, beside in plan["by_tier"].items()},
    }
    rows = [
        [
            name,
            say(beside["expected"]),
            f"{say(beside['low'])} to {say(beside['high'])}" if "low" in beside else "–",
            say(beside["actual"]),
            {True: "yes", False: "no"}.get(beside.get("within"), "–"),
        ]
        for name, (beside, say) in told.items()
    ]
    columns = ["what", "expected", "interval", "actual", "within"]
    table = Table("The plan and what came of it", columns, rows, frozenset({"what"}))
    return Section("plan", "Plan against actual", [cap], tables=[table])


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _queries(name: str, title: str, words: str, queries: Sequence[QueryFigures]) -> Section:
    if not queries:
        return Section(name, title, ["There is none."])
    with_text = any(query.text is not None for query in queries)
    columns = ["query", "tier", "cost", "calls", "confidence", "outcome", "reasons"]
    rows = [
        [
            query.custom_id,
            query.tier or "–",
            usd(query.cost_usd),
            f"{query.calls:,}",
            confidence(query.confidence),
            "best there was" if query.accepted is False else "accepted" if query.accepted else query.state,
            " · ".join(query.reasons) or "–",
            *([query.text or "–"] if with_text else []),
        ]
        for query in queries
    ]
    columns += ["prompt"] if with_text else []
    texts = frozenset({"query", "tier", "outcome", "reasons", "prompt"})
    return Section(name, title, [words], tables=[Table(title, columns, rows, texts)])


def _audit(account: Account) -> Section:
    title = "Audit seal"
    audit = account.audit
    if audit is None:
        return Section(
            "audit", title, ["Not checked here: `pointsman report --audit` or `pointsman audit verify` does."]
        )
    words: list[str] = []
    tables: list[Table] = []
    if audit.findings:
        words.append(f"Broken: {len(audit.findings):,} findings. The routing log is not as it was written.")
        tables.append(
            Table(
                "Findings",
                ["decision", "query", "what"],
                [[str(each.decision_id or "–"), each.query or "–", each.what] for each in audit.findings[:20]],
                frozenset({"query", "what"}),
            )
        )
    elif audit.seals:
        words.append(
            f"Sound: {audit.decisions:,} decisions are as they were written, under {audit.seals:,} "
            f"{'seal' if audit.seals == 1 else 'seals'} in an unbroken chain of hashes."
        )
    else:
        words.append("Nothing is sealed yet.")
    if audit.unsealed:
        words.append(f"{audit.unsealed:,} decisions are not sealed yet: a batch is sealed when it has ended.")
    if audit.purged:
        words.append("Retention has dropped decisions of it: of those only the chain can be checked.")
    if audit.head:
        words.append(f"Last hash: {audit.head}")
    return Section("audit", title, words, tables=tables)
