"""What `off-policy` and `retrain` do."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import typer
from rich.table import Table
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import ExitCode
from cli.commands.batches import with_database
from cli.console import emit, err, out
from cli.resources import read_settings, resolve_batch
from cli.training import registry
from cli.training.train_router import in_words, training_bar
from db.label_store import count_uncertain, labelled_log
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
from routing.query import Query, read_body

HELD_OUT: Final = 3
"""One query of so many is kept for the exam."""


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
    with in_words():
        fleet = read_settings(fleet_path).fleet()
        artifact = registry.open_router(router)
        whole = log_book(_read(batches, all_labels=all_labels), fleet)
        book = whole.informative_rows()
        own = _choices(book.queries, fleet, artifact)
        log = book.log(own.p_ok)
        loss = book.loss(quality_weight=fleet.router.quality_weight, top_usd=book.top_usd())
        outcomes = {"quality": book.grade, "cost_usd": book.cost_usd, "loss": loss}
        policies = {f"router {artifact.name}": log.held(own.policy)} | {
            f"always {tier}": log.always(at) for at, tier in enumerate(book.tiers)
        }
        told = {
            name: {what: value(log, policy, seen, seed=seed) for what, seen in outcomes.items()}
            for name, policy in policies.items()
        }
    logged = {what: float(seen.mean()) for what, seen in outcomes.items()}
    if not batches and (warning := _flattery(artifact)):
        err.print(warning, style="yellow")
    if as_json:
        emit(
            {
                "router": artifact.name,
                "n": len(book),
                "left_out": len(whole) - len(book),
                "explored": int(log.explored.sum()),
                "logged": logged,
                "tier_mix": dict(zip(book.tiers, own.shares.tolist(), strict=True)),
                "policies": {
                    name: {what: one.as_dict() for what, one in values.items()} for name, values in told.items()
                },
            }
        )
        return
    if left_out := len(whole) - len(book):
        err.print(
            f"{left_out:,} labelled queries are left out: they went where they went without exploration, or by a "
            "budget, and tell of no other way.",
            style="yellow",
        )
    _show_values(told, logged, book, log)


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
    with in_words():
        settings = read_settings(fleet_path)
        fleet = settings.fleet()
        if not dry_run:
            registry.check_free(name)
            _check_promoting_helps(fleet)
        book = log_book(_read(batches, all_labels=all_labels), fleet)
        sheet = None if held_out is None else _outcomes(held_out, fleet)
        taught, kept = _split(book, seed=seed) if sheet is None else (_without(book, sheet), None)
        # What cannot be examined is told before minutes of training.
        top_usd = book.informative_rows().top_usd()
        known, kept = taught.informative_rows(), None if kept is None else kept.informative_rows()
        with training_bar(f"{len(taught):,} labelled queries") as tell:
            artifact = train_from_log(taught, name=name, seed=seed, now=datetime.now(UTC), progress=tell)
        incumbent = registry.open_router(None if fleet.router.classifier == "default" else fleet.router.classifier)
        verdict = _examined(
            artifact, incumbent, known=known, kept=kept, sheet=sheet, top_usd=top_usd, fleet=fleet, seed=seed
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
                "trained_on": len(taught),
                "promoted": verdict.passed and not dry_run,
                "dry_run": dry_run,
                **_as_dict(verdict),
            }
        )
    else:
        _show_verdict(verdict, name=name, incumbent=incumbent.name, trained_on=len(taught), dry_run=dry_run)
    if not verdict.passed:
        raise typer.Exit(ExitCode.FAILURE)


def _flattery(artifact: Artifact) -> str | None:
    """What to say of figures on the whole log where the router learned from it."""
    if artifact.manifest["data"]["kind"] != "log":
        return None
    return (
        f"{artifact.name} learned from this log: on queries that it was taught the figures flatter it. --batch BATCH "
        "takes those of a batch that came later."
    )


def _check_promoting_helps(fleet: Fleet) -> None:
    router = fleet.router
    if "classifier" not in router.stages or router.classifier != "default":
        named = f"classifier = {router.classifier!r}" if "classifier" in router.stages else "no classifier in stages"
        raise EvaluationError(
            f"a promoted router would not serve this fleet, which has {named} under [router]. Write "
            'classifier = "default" and name it in stages; --dry-run tells the verdict without promoting'
        )


def _examined(
    artifact: Artifact,
    incumbent: Artifact,
    *,
    known: LabelledLog,
    kept: LabelledLog | None,
    sheet: Dataset | None,
    top_usd: float,
    fleet: Fleet,
    seed: int,
) -> PromotionVerdict:
    """On ``sheet``, or else on what was ``kept`` of the log. ``known`` is what the candidate was taught that tells."""
    weight = fleet.router.quality_weight
    exam: PromotionTest
    if sheet is not None:
        exam = OutcomeExam.of(sheet, call_costs_for(sheet, fleet), quality_weight=weight)
        own, theirs = (_choices(exam.queries, fleet, one) for one in (artifact, incumbent))
    else:
        assert kept is not None
        own, theirs = (_choices(kept.queries, fleet, one) for one in (artifact, incumbent))
        log = kept.log(np.hstack([own.p_ok, theirs.p_ok]))
        exam = LogExam(kept, log, kept.loss(quality_weight=weight, top_usd=top_usd))
    rule = best_length_rule(known, known.loss(quality_weight=weight, top_usd=top_usd))
    lengths = np.array([len(query.text) for query in exam.queries], dtype=np.float64)
    return run_promotion_test(
        exam,
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


def _without(book: LabelledLog, sheet: Dataset) -> LabelledLog:
    """What may be taught before an exam on ``sheet``: no question of it. Says how many that leaves out."""
    asked = {text.strip() for text in sheet.queries}
    rest = book.where(np.array([query.text.strip() not in asked for query in book.queries]))
    if not len(rest):
        raise EvaluationError(
            f"all {len(book):,} labelled queries stand in {sheet.name} too, so none is left to learn from: hold other "
            "questions out, or leave --held-out away for an exam on a third of the log"
        )
    if left_out := len(book) - len(rest):
        err.print(
            f"{left_out:,} labelled queries stand in {sheet.name} too: they examine, and are not learned from.",
            style="yellow",
        )
    return rest


def _split(book: LabelledLog, *, seed: int) -> tuple[LabelledLog, LabelledLog]:
    """Two thirds to learn from, one to be examined on.

    A text stands on the same side whatever else the log holds. So a router that was trained on an earlier log was not
    taught what now examines its successor.
    """
    kept = np.array([_is_kept(query.text, seed=seed) for query in book.queries])
    return book.where(~kept), book.where(kept)


def _is_kept(text: str, *, seed: int) -> bool:
    digest = hashlib.blake2b(f"{seed} {text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT == 0


def _choices(queries: Sequence[Query], fleet: Fleet, artifact: Artifact) -> Choices:
    return choices(queries, fleet=fleet, predictor=predictor_of(artifact))


def _read(public_ids: Sequence[str] | None, *, all_labels: bool) -> list[LabelledDecision]:
    """The labelled queries of those batches, or of all. Says how many it leaves out."""

    async def work(engine: AsyncEngine) -> tuple[list[LabelledDecision], int]:
        ids = None if not public_ids else [(await resolve_batch(engine, public_id)).id for public_id in public_ids]
        rows = [_logged(row) async for row in labelled_log(engine, batch_ids=ids, all_labels=all_labels)]
        return rows, 0 if all_labels else await count_uncertain(engine, batch_ids=ids)

    rows, left_out = with_database(read_settings(), work)
    if left_out:
        err.print(
            f"{left_out:,} labelled queries are left out: they were shown because they were doubtful, and are no "
            "sample of the log. --all-labels takes them.",
            style="yellow",
        )
    return rows


def _logged(row: Row[Any]) -> LabelledDecision:
    options: Mapping[str, Any] = row.options or {}
    return LabelledDecision(
        id=row.id,
        query=read_body(row.body, pin=options.get("pin"), expects=options.get("expects")),
        chosen=row.chosen,
        propensity=1.0 if row.propensity is None else row.propensity,
        stood=row.stood,
        grade=row.grade,
        chosen_grade=row.chosen_grade,
        cost_usd=float(row.cost_usd),
    )


def _as_dict(verdict: PromotionVerdict) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "n": verdict.n,
        "tier_mix": {tier: round(share, 4) for tier, share in verdict.shares.items()},
        "comparisons": [asdict(one) | {"is_won": one.is_won} for one in verdict.comparisons],
        "why": verdict.words,
    }


def _show_verdict(verdict: PromotionVerdict, *, name: str, incumbent: str, trained_on: int, dry_run: bool) -> None:
    mix = ", ".join(f"{tier} {100 * share:.0f} %" for tier, share in verdict.shares.items())
    out.print(f"{name}: trained on {trained_on:,} labelled queries; would send {mix}")
    table = Table("saved over", "loss per query", "at worst", "", title="In calls to the top tier")
    for one in verdict.comparisons:
        rival = f"the incumbent, {incumbent}" if one.rival == "the incumbent" else one.rival
        table.add_row(rival, f"{one.saved:+.4f}", f"{one.low:+.4f}", "better" if one.is_won else "in doubt")
    out.print(table)
    if not verdict.passed:
        err.print(f"Refused: {verdict.words}. {incumbent} goes on serving.", style="yellow")
    elif dry_run:
        out.print(f"It would be promoted: {verdict.words}.")
    else:
        out.print(f"Promoted: {verdict.words}. Workers that run take it up within seconds.")


def _show_values(
    told: Mapping[str, Mapping[str, Value]], logged: Mapping[str, float], book: LabelledLog, log: Log
) -> None:
    out.print(
        f"{len(book):,} labelled queries, {int(log.explored.sum()):,} of them explored; what they came to: "
        f"quality {logged['quality']:.3f}, ${logged['cost_usd']:.6f} per query"
    )
    table = Table("policy", "what", "IPS", "SNIPS", "DR", "95 % of DR", "worth of")
    for name, values in told.items():
        for what, one in values.items():
            digits = 6 if what == "cost_usd" else 3
            bounds = one.intervals["dr"]
            table.add_row(
                name if what == "quality" else "",
                what,
                *(f"{figure:.{digits}f}" for figure in (one.ips, one.snips, one.dr)),
                "–" if bounds is None else f"{bounds.low:.{digits}f} – {bounds.high:.{digits}f}",
                f"{one.effective_n:,.0f} queries",
            )
    out.print(table)
