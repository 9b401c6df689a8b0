"""The options of a batch: key, priority, budget, deadline and quality floor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.command_errors import CommandError, ExitCode
from cli.input_files import STDIN, SqlInput, display_name
from cli.param_types import (
    BudgetOption,
    ByOption,
    DedupOption,
    KeyOption,
    PolicyOption,
    PriorityOption,
    WithinOption,
    read_deadline,
)
from db.batch_writer import BatchSpec
from db.tenants import DEFAULT_TENANT
from routing.pilot import DEFAULT_CONFIDENCE, GraderChoice, PilotSpec

QualityOption = Annotated[
    float | None,
    typer.Option(
        "--quality",
        metavar="SHARE",
        help="Keep this share of the top tier's quality, certified on a random sample (the pilot) of the batch: 0.95.",
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        "--confidence", metavar="SHARE", help="Confidence of the certificate. Default: 0.95. Needs --quality."
    ),
]
PilotOption = Annotated[
    int | None,
    typer.Option("--pilot", metavar="N", min=1, help="Sample at most N queries. Needs --quality."),
]

GraderOption = Annotated[
    GraderChoice | None,
    typer.Option(
        "--grader",
        help="Who grades the pilot's answers. Default: by their shape, or the fleet's judge. Needs --quality.",
    ),
]


@dataclass(frozen=True, slots=True)
class BatchOptionGroup:
    """What a command says about its batch."""

    idempotency_key: KeyOption = None
    priority: PriorityOption = 0
    budget: BudgetOption = None
    budget_policy: PolicyOption = None
    dedup: DedupOption = False
    within: WithinOption = None
    by: ByOption = None
    quality: QualityOption = None
    confidence: ConfidenceOption = None
    pilot: PilotOption = None
    grader: GraderOption = None

    def spec(
        self, source: str | SqlInput | None, *, tenant: str = DEFAULT_TENANT, stops_after_pilot: bool = False
    ) -> BatchSpec:
        """The batch, named after its ``source``. Raises CommandError where the options contradict each other."""
        return BatchSpec(
            source="stdin" if source in (None, STDIN) else Path(display_name(str(source))).name,
            tenant=tenant,
            idempotency_key=self.idempotency_key,
            priority=self.priority,
            cap_usd=self.budget,
            budget_policy=self.budget_policy,
            pilot=self._pilot(stops=stops_after_pilot),
            dedup=self.dedup,
            deadline=read_deadline(self.by, self.within),
        )

    def _pilot(self, *, stops: bool) -> PilotSpec | None:
        """The pilot of the quality floor; None without a floor."""
        if self.quality is None:
            if (self.confidence, self.pilot, self.grader) != (None, None, None):
                raise CommandError(
                    "--confidence, --pilot and --grader belong to a quality floor.",
                    hint="Add --quality 0.95.",
                    code=ExitCode.USAGE,
                )
            return None
        try:
            return PilotSpec(
                self.quality,
                DEFAULT_CONFIDENCE if self.confidence is None else self.confidence,
                max_queries=self.pilot,
                stops=stops,
                grader=self.grader,
            )
        except ValueError as error:
            name, _, problem = str(error).partition(": ")
            raise CommandError(
                f"Invalid --{name}: {problem}.", hint="E.g. --quality 0.95 --confidence 0.95.", code=ExitCode.USAGE
            ) from None
