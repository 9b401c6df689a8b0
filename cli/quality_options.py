"""The options of a quality floor, and what they ask for."""

from typing import Annotated

import typer

from cli.command_errors import CommandError, ExitCode
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
    typer.Option("--confidence", metavar="SHARE", help="Of the certificate; 0.95 if left out. Needs --quality."),
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


def read_pilot(
    quality: float | None,
    confidence: float | None,
    pilot: int | None,
    grader: GraderChoice | None,
    *,
    stops: bool = False,
) -> PilotSpec | None:
    """The pilot that is asked for; None without a floor. Raises CommandError."""
    if quality is None:
        if (confidence, pilot, grader) != (None, None, None):
            raise CommandError(
                "--confidence, --pilot and --grader belong to a quality floor.",
                hint="Add --quality 0.95.",
                code=ExitCode.USAGE,
            )
        return None
    try:
        return PilotSpec(
            quality,
            DEFAULT_CONFIDENCE if confidence is None else confidence,
            max_queries=pilot,
            stops=stops,
            grader=grader,
        )
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise CommandError(
            f"Invalid --{name}: {problem}.", hint="E.g. --quality 0.95 --confidence 0.95.", code=ExitCode.USAGE
        ) from None
