"""The work of `off-policy` and `retrain`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import typer
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import ExitCode
from cli.console import emit, out, table, warn
from cli.open_services import read_settings, resolve_batch, with_database
from cli.training import registry
from cli.training.train_router import training_bar, usage_errors
from db.label_store import count_uncertain, labelled_log
from db.rows import from_row
from evaluation.data.call_costs import call_costs_for
from evaluation.data.dataset import Dataset, Kind, read_dataset
from evaluation.data.dataset_errors import EvaluationError
from evaluation.metrics.policy_choices import Choices, choices
from evaluation.models.artifact import Artifact, save
from evaluation.models.predictors import predictor_of
from evaluation.production.champion_challenger import (
    LogExam,
    OutcomeExam,
    PromotionTest,
    PromotionVerdict,
    best_length_rule,
    run_promotion_test,
)
from evaluation.production.labelled_log import LabelledDecision, LabelledLog, log_book
from evaluation.production.off_policy import Log, Value, value
from evaluation.production.train_from_log import train_from_log
from routing.fleet import Fleet
from routing.query import Query, read_line

HELD_OUT: Final = 3
"""One query in three is held out for the promotion test."""


def estimate(
    *,
    router: str | None,
    batches: Sequence[str] | None,
    all_labels: bool,
    fleet_path: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """See `cli.commands.learn.off_policy`."""
    with usage_errors():
        fleet = read_settings(fleet_path).fleet()
        artifact = registry.open_router(router)
        labelled = log_book(_read(batches, all_labels=all_labels), fleet)
        book = labelled.informative_rows()
        own = _choices(book.queries, fleet, artifact)
        log = book.log(own.p_ok)
        loss = book.loss(quality_weight=fleet.router.quality_weight, top_usd=book.top_usd())
        outcomes = {"quality": book.grade, "cost_usd": book.cost_usd, "loss": loss}
        policies = {f"router {artifact.name}": log.held(own.policy)} | {
            f"always {tier}": log.always(at) for at, tier in enumerate(book.tiers)
        }
        estimates = {
            name: {what: value(log, policy, observed, seed=seed) for what, observed in outcomes.items()}
            for name, policy in policies.items()
        }
    logged = {what: float(observed.mean()) for what, observed in outcomes.items()}
    if not batches and (warning := _training_overlap(artifact)):
        warn(warning)
    if as_json:
        emit(
            {
                "router": artifact.name,
                "n": len(book),
                "left_out": len(labelled) - len(book),
                "explored": int(log.explored.sum()),
                "logged": logged,
                "tier_mix": dict(zip(book.tiers, own.shares.tolist(), strict=True)),
                "policies": {
                    name: {what: estimate.as_dict() for what, estimate in values.items()}
                    for name, values in estimates.items()
                },
            }
        )
        return
    if left_out := len(labelled) - len(book):
        warn(f"labeled queries left out, because they were routed without exploration or by a budget: {left_out:,}.")
    _show_values(estimates, logged, book, log)


def retrain(
    *,
    name: str,
    batches: Sequence[str] | None,
    all_labels: bool,
    held_out: Path | None,
    dry_run: bool,
    fleet_path: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """See `cli.commands.learn.retrain`."""
    with usage_errors():
        settings = read_settings(fleet_path)
        fleet = settings.fleet()
        if not dry_run:
            registry.check_free(name)
            _check_promotion_serves(fleet)
        book = log_book(_read(batches, all_labels=all_labels), fleet)
        test_data = None if held_out is None else _outcomes(held_out, fleet)
        train_log, test_log = _split(book, seed=seed) if test_data is None else (_without(book, test_data), None)
        # Before minutes of training: raises where the log does not allow a test.
        top_usd = book.informative_rows().top_usd()
        known, test_log = train_log.informative_rows(), None if test_log is None else test_log.informative_rows()
        with training_bar(f"{len(train_log):,} labeled queries") as progress:
            artifact = train_from_log(train_log, name=name, seed=seed, now=datetime.now(UTC), progress=progress)
        incumbent = registry.open_router(None if fleet.router.classifier == "default" else fleet.router.classifier)
        verdict = _test(
            artifact,
            incumbent,
            known=known,
            test_log=test_log,
            test_data=test_data,
            top_usd=top_usd,
            fleet=fleet,
            seed=seed,
        )
        if verdict.passed and not dry_run:
            artifact.manifest["metrics"]["exam"] = _as_dict(verdict)
            with TemporaryDirectory(prefix="pointsman-retrain-") as folder:
                save(artifact, Path(folder))
                registry.register(Path(folder))
            registry.promote(name, over=incumbent.digest)
    if as_json:
        emit(
            {
                "name": name,
                "incumbent": incumbent.name,
                "trained_on": len(train_log),
                "promoted": verdict.passed and not dry_run,
                "dry_run": dry_run,
                **_as_dict(verdict),
            }
        )
    else:
        _show_verdict(verdict, name=name, incumbent=incumbent.name, trained_on=len(train_log), dry_run=dry_run)
    if not verdict.passed:
        raise typer.Exit(ExitCode.FAILURE)


def _training_overlap(artifact: Artifact) -> str | None:
    """Return the warning for figures on a log that the router was trained on."""
    if artifact.manifest["data"]["kind"] != "log":
        return None
    return (
        f"{artifact.name} was trained on this log, so its figures here are too good. fix: use --batch BATCH with a "
        "later batch."
    )


def _check_promotion_serves(fleet: Fleet) -> None:
    router = fleet.router
    if "classifier" not in router.stages or router.classifier != "default":
        setting = f"classifier = {router.classifier!r}" if "classifier" in router.stages else "no classifier in stages"
        raise EvaluationError(
            f"a promoted router would not serve this fleet, which has {setting} under [router]. Write "
            'classifier = "default" and add it to stages; --dry-run shows the verdict without promoting'
        )


def _test(
    artifact: Artifact,
    incumbent: Artifact,
    *,
    known: LabelledLog,
    test_log: LabelledLog | None,
    test_data: Dataset | None,
    top_usd: float,
    fleet: Fleet,
    seed: int,
) -> PromotionVerdict:
    """Test on ``test_data``, or else on ``test_log``. ``known`` are the candidate's informative training rows."""
    weight = fleet.router.quality_weight
    test: PromotionTest
    if test_data is not None:
        test = OutcomeExam.of(test_data, call_costs_for(test_data, fleet), quality_weight=weight)
        own, theirs = (_choices(test.queries, fleet, router) for router in (artifact, incumbent))
    else:
        assert test_log is not None
        own, theirs = (_choices(test_log.queries, fleet, router) for router in (artifact, incumbent))
        log = test_log.log(np.hstack([own.p_ok, theirs.p_ok]))
        test = LogExam(test_log, log, test_log.loss(quality_weight=weight, top_usd=top_usd))
    rule = best_length_rule(known, known.loss(quality_weight=weight, top_usd=top_usd))
    lengths = np.array([len(query.text) for query in test.queries], dtype=np.float64)
    return run_promotion_test(
        test,
        candidate=own,
        incumbent=theirs,
        rules={"query length alone": rule(lengths)},
        tiers=known.tiers,
        seed=seed,
    )


def _outcomes(path: Path, fleet: Fleet) -> Dataset:
    data = read_dataset(path, ladder=fleet.ladder)
    if data.kind != Kind.OUTCOMES or data.tiers != tuple(fleet.ladder):
        raise EvaluationError(f"{path} must hold outcomes of the tiers {', '.join(fleet.ladder)}")
    return data


def _without(book: LabelledLog, test_data: Dataset) -> LabelledLog:
    """Return the queries of the log that are not in ``test_data``. Warns of the others. Raises EvaluationError if none
    is left."""
    tested = {text.strip() for text in test_data.queries}
    remaining = book.where(np.array([query.text.strip() not in tested for query in book.queries]))
    if not len(remaining):
        raise EvaluationError(
            f"all {len(book):,} labeled queries are in {test_data.name} too, which leaves none to train on. fix: hold "
            "out other questions, or omit --held-out to test on a third of the log"
        )
    if left_out := len(book) - len(remaining):
        warn(
            f"{left_out:,} labeled queries are in {test_data.name} too, so they are used for the test and not for "
            "training."
        )
    return remaining


def _split(book: LabelledLog, *, seed: int) -> tuple[LabelledLog, LabelledLog]:
    """Split the log: two thirds to train on, one third to test on.

    A text stays on its side as the log grows, so an incumbent trained on an earlier log has not seen the test queries
    of its successor.
    """
    held_out = np.array([_is_held_out(query.text, seed=seed) for query in book.queries])
    return book.where(~held_out), book.where(held_out)


def _is_held_out(text: str, *, seed: int) -> bool:
    digest = hashlib.blake2b(f"{seed} {text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT == 0


def _choices(queries: Sequence[Query], fleet: Fleet, artifact: Artifact) -> Choices:
    return choices(queries, fleet=fleet, predictor=predictor_of(artifact))


def _read(batches: Sequence[str] | None, *, all_labels: bool) -> list[LabelledDecision]:
    """Return the labeled queries of those batches, or of all. Warns of those left out."""

    async def work(engine: AsyncEngine) -> tuple[list[LabelledDecision], int]:
        ids = None if not batches else [(await resolve_batch(engine, public_id)).id for public_id in batches]
        rows = [_logged(row) async for row in labelled_log(engine, batch_ids=ids, all_labels=all_labels)]
        return rows, 0 if all_labels else await count_uncertain(engine, batch_ids=ids)

    rows, left_out = with_database(read_settings(), work)
    if left_out:
        warn(
            f"{left_out:,} labeled queries are left out, because they were selected for low confidence and are not "
            "a random sample. --all-labels includes them."
        )
    return rows


def _logged(row: Row[Any]) -> LabelledDecision:
    propensity = 1.0 if row.propensity is None else row.propensity
    return from_row(LabelledDecision, row, query=read_line(row.body, row.options or {}), propensity=propensity)


def _as_dict(verdict: PromotionVerdict) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "n": verdict.n,
        "tier_mix": {tier: round(share, 4) for tier, share in verdict.shares.items()},
        "comparisons": [asdict(rival) | {"is_won": rival.is_won} for rival in verdict.comparisons],
        "why": verdict.words,
    }


def _show_verdict(verdict: PromotionVerdict, *, name: str, incumbent: str, trained_on: int, dry_run: bool) -> None:
    mix = ", ".join(f"{tier} {100 * share:.0f} %" for tier, share in verdict.shares.items())
    out.print(f"{name}: trained on {trained_on:,} labeled queries; would route {mix}")
    out.print("Reduction in loss per query, in calls to the top tier:")
    grid = table(("against",), ("saved", "at least", ""))
    for comparison in verdict.comparisons:
        rival = f"the incumbent, {incumbent}" if comparison.rival == "the incumbent" else comparison.rival
        result = "better" if comparison.is_won else "not certain"
        grid.add_row(rival, f"{comparison.saved:+.4f}", f"{comparison.low:+.4f}", result)
    out.print(grid)
    if not verdict.passed:
        warn(f"Not promoted: {verdict.words}. {incumbent} continues to serve.")
    elif dry_run:
        out.print(f"Would be promoted: {verdict.words}.")
    else:
        out.print(f"Promoted: {verdict.words}. Running workers load it within seconds.")


def _show_values(
    estimates: Mapping[str, Mapping[str, Value]], logged: Mapping[str, float], book: LabelledLog, log: Log
) -> None:
    out.print(
        f"{len(book):,} labeled queries, {int(log.explored.sum()):,} explored; logged: "
        f"quality {logged['quality']:.3f}, ${logged['cost_usd']:.6f} per query"
    )
    grid = table(("policy", "figure"), ("IPS", "SNIPS", "DR", "95 % of DR", "effective size"))
    for name, values in estimates.items():
        for what, estimate in values.items():
            digits = 6 if what == "cost_usd" else 3
            bounds = estimate.intervals["dr"]
            grid.add_row(
                name if what == "quality" else "",
                what,
                *(f"{figure:.{digits}f}" for figure in (estimate.ips, estimate.snips, estimate.dr)),
                "–" if bounds is None else f"{bounds.low:.{digits}f} – {bounds.high:.{digits}f}",
                f"{estimate.effective_n:,.0f} queries",
            )
    out.print(grid)
