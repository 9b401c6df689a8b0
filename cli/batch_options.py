"""The options of a batch: key, priority, budget, deadline and quality floor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.command_errors import CommandError, ExitCode
from cli.input_files import STDIN, SqlInput, display_name
from cli.param_types import BudgetOption, read_deadline
from db.batch_writer import BatchSpec
from db.tenants import DEFAULT_TENANT
from routing.fleet import BudgetPolicy
from routing.pilot import DEFAULT_CONFIDENCE, GraderChoice, PilotSpec

ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        "--confidence", metavar="SHARE", help="Confidence of the certificate. Default: 0.95. Needs --quality."
    ),
]

GraderOption = Annotated[
    GraderChoice | None,
    typer.Option(
        "--grader",
        help="Grader of the pilot's answers. Default: their shape decides; the fleet's judge grades free text. "
        "Needs --quality.",
    ),
]


@dataclass(frozen=True, slots=True)
class BatchOptionGroup:
    """The options that describe a batch."""

    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="An idempotency key. Using it again returns the batch of its first use.",
        ),
    ] = None
    priority: Annotated[
        int, typer.Option("--priority", min=-100, max=100, help="Higher values are answered first.")
    ] = 0
    budget: BudgetOption = None
    budget_policy: Annotated[
        BudgetPolicy | None,
        typer.Option(
            "--budget-policy",
            help="What happens to queries over the budget: hold them, fail them, or degrade the easiest ones to "
            "cheaper tiers. Default: the fleet's policy.",
        ),
    ] = None
    dedup: Annotated[
        bool,
        typer.Option(
            "--dedup",
            help="Send identical lines only once, whatever their temperature. Without this option, only lines "
            "with temperature 0 share an answer.",
        ),
    ] = False
    within: Annotated[
        str | None,
        typer.Option(
            "--within",
            metavar="TIME",
            help="The time within which you need the answers, such as 90m, 24h or 2d. Cheaper, slower lanes of the "
            "fleet may be used until then.",
        ),
    ] = None
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="TIME", help="Like --within, as a time of day or a date: 06:00, or 2030-01-31T06:00+01:00."
        ),
    ] = None
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality",
            metavar="SHARE",
            help="Keep this share of the top tier's quality, such as 0.95. A random sample of the batch (the pilot) "
            "certifies it.",
        ),
    ] = None
    confidence: ConfidenceOption = None
    pilot: Annotated[
        int | None,
        typer.Option("--pilot", metavar="N", min=1, help="Maximum number of sampled queries. Needs --quality."),
    ] = None
    grader: GraderOption = None

    def spec(
        self, source: str | SqlInput | None, *, tenant: str = DEFAULT_TENANT, stops_after_pilot: bool = False
    ) -> BatchSpec:
        """Return the batch, named after its ``source``. Raises CommandError if the options contradict each other."""
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
        """Return the pilot of the quality floor, or None without a floor."""
        if self.quality is None:
            if (self.confidence, self.pilot, self.grader) != (None, None, None):
                raise CommandError(
                    "--confidence, --pilot and --grader need --quality.",
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
                f"Invalid --{name}: {problem}.",
                hint="For example, use --quality 0.95 --confidence 0.95.",
                code=ExitCode.USAGE,
            ) from None
