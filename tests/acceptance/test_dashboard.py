"""The dashboard in Debian's Chromium during a live run. `tests/acceptance/browser.sh` installs what it needs.

The tests are one story in the order of the file: an empty page, a batch that runs, the figures at its end.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import make_engine
from db.spend import sum_spend
from db.workload_sums import sum_workloads
from settings import ROOT, Settings
from tests.command_line import in_process
from tests.integration.api.test_roles import register_shipped

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = ROOT / ".venv" / "axe" / "package" / "axe.min.js"
COPIES = 4
TILE = (
    "(name) => [...document.querySelectorAll('.tile')].find((t) => t.querySelector('dt').textContent === name)"
    "?.querySelector('.big').textContent ?? ''"
)
WIDE, NARROW = (1240, 900), (400, 800)


@dataclass
class Stage:
    """What runs: the stack by the command line, the browser on its dashboard."""

    url: str
    home: Path
    environ: dict[str, str]
    driver: Any
    batch: str = ""

    def command(self, *arguments: str) -> str:
        ended = in_process(*arguments, environ=self.environ)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode()

    def on_engine(self, act: Callable[[AsyncEngine], Awaitable[object]]) -> None:
        """Does that on the database, as the stack's own processes do."""

        async def work() -> None:
            engine = make_engine(Settings.load({"POINTSMAN_HOME": str(self.home)}).database_url)
            await act(engine)
            await engine.dispose()

        asyncio.run(work())

    def rows(self, statement: str) -> list[dict[str, Any]]:
        url = Settings.load({"POINTSMAN_HOME": str(self.home)}).database_url.replace("+psycopg", "")
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]  # ours

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def tile(self, name: str) -> str:
        """The figure of a tile, with its unit."""
        return str(self.script(f"return ({TILE})(arguments[0])", name))

    def note(self, expression: str) -> None:
        """Has the page itself note what this comes to at each of its changes: they may be over before anybody looks."""
        self.script(
            f"window.noted = []; new MutationObserver(() => window.noted.push({expression})).observe("
            "document.body, {subtree: true, childList: true, characterData: true, attributes: true})"
        )

    def noted(self) -> set[str]:
        return set(self.script("return window.noted"))

    def table(self, panel: str) -> dict[str, list[str]]:
        """The rows of a panel's table by their heading."""
        return {row[0]: row[1:] for row in self.cells(f"#{panel} tbody tr")}

    def cells(self, selector: str) -> list[list[str]]:
        """The cells of a table's rows."""
        return list(
            self.script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".map((r) => [...r.children].map((c) => c.innerText.trim()))",
                selector,
            )
        )

    def axe(self) -> list[Any]:
        """What axe-core finds wrong; nothing where it is not there."""
        if not AXE.exists():
            return []
        self.script(AXE.read_text())
        return list(
            self.driver.execute_async_script(
                "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
                ".then((r) => done(r.violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html.slice(0, 150))])),"
                " (e) => done([[String(e)]]))"
            )
        )

    def until(self, come_true: Callable[[], Any], *, patience_s: float = 240) -> Any:
        deadline = time.monotonic() + patience_s
        while not (found := self._try(come_true)):
            assert time.monotonic() < deadline, f"it did not come true; the page says {self.text('main')[:1500]}"
            time.sleep(0.1)
        return found

    def _try(self, come_true: Callable[[], Any]) -> Any:
        try:
            return come_true()
        except StaleElementReferenceException:
            return None

    def is_live(self) -> bool:
        return self.text("#link") == "Live"

    def look(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """The window of that size, in the light or dark scheme."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def picture(self, name: str, size: tuple[int, int], *, dark: bool = False, of: str = "body") -> None:
        """A picture of the whole of an element, where pictures are wanted."""
        folder = os.environ.get("POINTSMAN_SCREENSHOTS")
        if not folder:
            return
        self.look((size[0], int(self.script("return document.documentElement.scrollHeight"))), dark=dark)
        time.sleep(0.6)
        self.driver.find_element("css selector", of).screenshot(str(ROOT / folder / f"{name}.png"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a screen, in English, with a profile of its own."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("NO BROWSER LOOKED AT THE DASHBOARD: run tests/acceptance/browser.sh, which installs one")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def stage(browser: Any) -> Iterator[Stage]:
    """`pointsman up`, and the page that it names."""
    home = Path(tempfile.mkdtemp(prefix="pointsman-page-"))  # a short path, for the sockets
    environ = {"POINTSMAN_HOME": str(home), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    log = (home / "up.log").open("w+")
    up = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up", "--no-flower"], env=environ, stdout=log, stderr=log, cwd=ROOT
    )
    try:
        url = None
        deadline = time.monotonic() + 240
        while url is None:
            assert up.poll() is None, (home / "up.log").read_text()
            assert time.monotonic() < deadline, (home / "up.log").read_text()
            time.sleep(0.2)
            url = re.search(r"^dashboard: (http://127\.0\.0\.1:\d+/dashboard)$", (home / "up.log").read_text(), re.M)
        stage = Stage(url.group(1), home, environ, browser)
        stage.look(WIDE)
        browser.get(stage.url)
        yield stage
    finally:
        log.close()
        up.terminate()
        up.wait(120)
        subprocess.run([sys.executable, "-m", "cli.main", "down"], env=environ, capture_output=True, cwd=ROOT)
        shutil.rmtree(home, ignore_errors=True)


def number(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text))


def test_an_empty_page_says_what_to_do_and_that_the_fleet_is_simulated(stage: Stage) -> None:
    stage.until(stage.is_live)
    assert "Simulated fleet." in stage.driver.find_element("id", "simulated").text
    assert stage.tile("Open queries") == "0"
    assert "pointsman submit FILE" in stage.text("#batches")
    assert "no labels yet" in stage.text("#router") or "labeled" in stage.text("#router")


@pytest.mark.parametrize("page", ["batch.html", "workload.html"])
def test_an_address_with_a_broken_escape_names_nothing_and_stops_nothing(stage: Stage, page: str) -> None:
    stage.driver.get(f"{stage.url}/{page}#%")
    stage.until(lambda: stage.text("#of"), patience_s=30)
    # As of any name that does not exist.
    shown = stage.text("#of")
    stage.driver.get(f"{stage.url}/{page}#none")
    stage.until(lambda: stage.text("#of") and "none" in stage.driver.current_url)
    assert shown == stage.text("#of").replace("none", "%")
    stage.driver.get(stage.url)
    stage.until(stage.is_live)


def test_the_page_follows_a_run_without_being_loaded_again(stage: Stage, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (ROOT / "examples" / "queries.jsonl").read_text().splitlines() if line]
    file = tmp_path / "live.jsonl"
    copies = []
    for n in range(COPIES):
        for place, line in enumerate(lines):
            name = "custom_id" if "custom_id" in line else "id"
            copies.append(line | {name: f"{line.get(name, place)}-{n}"})
    file.write_text("".join(json.dumps(line) + "\n" for line in copies))
    stage.script("window.sameDocument = true")
    stage.note(f"({TILE})('Open queries')")
    stage.batch = json.loads(stage.command("submit", str(file), "--json").splitlines()[-1])["batch_id"]
    folder = os.environ.get("POINTSMAN_SCREENSHOTS")

    def through() -> bool:
        if folder and number(stage.tile("Open queries")) > 0 and stage.text("#mix .legend"):
            stage.driver.save_screenshot(str(ROOT / folder / "dashboard.png"))
        return "ended" in stage.text("#batches") and stage.tile("Open queries") == "0"

    stage.until(through)
    seen = stage.noted()
    assert len(seen) > 1, seen
    assert len(copies) >= max(number(each) for each in seen if each) > 0
    assert stage.script("return window.sameDocument") is True
    stage.until(lambda: "has ended" in stage.text("#news"))
    # Of the shipped fleet's tiers only the top one has no source of confidence: nothing is above it to escalate to.
    stage.until(lambda: "judged without confidence" in stage.text("#confidence figure:nth-of-type(3)"))


def test_the_figures_on_the_page_are_those_of_the_database(stage: Stage) -> None:
    (cost,) = stage.rows("SELECT sum(cost_usd) AS usd, count(*) AS calls FROM calls")
    answered = {row["tier"]: row["n"] for row in stage.rows("SELECT tier, count(*) AS n FROM answers GROUP BY tier")}
    done = sum(answered.values())

    def mix() -> dict[str, int]:
        legend = stage.driver.find_elements("css selector", "#mix .legend li")
        parts = [each.text.rsplit(" ", 1) for each in legend]
        return {part[0].split()[0]: int(number(part[1])) for part in parts}

    stage.until(lambda: sum(mix().values()) == done)
    assert mix() == answered
    ((_, [_, told_done, told_failed, told_open, *_]),) = stage.table("batches").items()
    assert (number(told_done), number(told_failed), number(told_open)) == (done, 0, 0)
    assert number(stage.tile("Cost")) == pytest.approx(float(cost["usd"]), rel=0.002)
    alone = json.loads(stage.command("report", stage.batch, "--json"))["baseline_cost_usd"]
    stage.until(lambda: number(stage.text("#cost .lead").split(" of $")[1]) == pytest.approx(alone, rel=0.002))
    assert number(stage.tile("Saved")) == pytest.approx((1 - float(cost["usd"]) / alone) * 100, abs=0.5)
    models = {row["deployment"]: row["n"] for row in stage.rows(
        "SELECT deployment, count(*) AS n FROM calls GROUP BY deployment")}  # fmt: skip
    shown = {name.split("\n")[0]: int(number(row[2])) for name, row in stage.table("providers").items()}
    assert {name: n for name, n in shown.items() if n} == models
    (up,) = stage.rows("SELECT sum(escalations) AS n FROM queries")
    assert f"escalated: {up['n']:,} of" in stage.text("#escalation")
    reasons = {row["reason"].replace("_", " "): row["n"] for row in stage.rows(
        "SELECT codes[1] AS reason, count(*) AS n FROM decisions"
        " WHERE kind = 'judge' AND to_stage = 'fallback' GROUP BY 1")}  # fmt: skip
    bars = [each.text.split("\n") for each in stage.driver.find_elements("css selector", "#escalation .bars li")]
    assert {bar[0]: int(number(bar[-1].split()[0])) for bar in bars} == reasons
    assert {row["stage"] for row in stage.rows("SELECT DISTINCT stage FROM stages")} <= set(stage.table("queues"))


def test_the_page_of_a_batch_has_the_figures_of_its_report(stage: Stage) -> None:
    stage.script("document.getElementById(arguments[0]).click()", f"{stage.batch}-page")
    stage.until(lambda: stage.table("tiers") and stage.table("workloads"))
    (cost,) = stage.rows("SELECT sum(cost_usd) AS usd, count(*) AS calls FROM calls")
    assert number(stage.text("#facts dd b")) == pytest.approx(float(cost["usd"]), rel=0.002)
    assert f"in {cost['calls']:,} calls" in stage.text("#facts")
    answered = {row["tier"]: row["n"] for row in stage.rows("SELECT tier, count(*) AS n FROM answers GROUP BY tier")}
    shown = {tier: int(number(cells[0])) for tier, cells in stage.table("tiers").items()}
    assert {tier: n for tier, n in shown.items() if n} == answered
    assert sum(number(cells[0]) for cells in stage.table("workloads").values()) == sum(answered.values())
    assert "No line has failed" in stage.text("#failures")
    low, high = json.loads(stage.command("report", stage.batch, "--json"))["saving_range"]
    assert f"saved ({100 * low:.1f} % to {100 * high:.1f} %)" in stage.text("#facts")
    for size, dark, name in ((WIDE, False, "batch"), (WIDE, True, "batch-dark"), (NARROW, False, "batch-narrow")):
        stage.look(size, dark=dark)
        assert stage.axe() == []
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
        stage.picture(name, size, dark=dark)
    stage.look(WIDE)
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)


def test_figures_that_this_run_does_not_have_are_shown_as_in_the_report(stage: Stage) -> None:
    def shown(module: str, call: str) -> Any:
        return stage.driver.execute_async_script(
            "const done = arguments[0];"
            f"import('/dashboard/{module}.js').then((m) => done(m.{call}), (e) => done(String(e)))"
        )

    assert shown("panels", "measure(1.02, [0.98, 1.02])") == "102.0 % (98.0 % or more)"
    assert shown("panels", "measure(0.97, [0.94, 1.0])") == "97.0 % (94.0 % to 100.0 %)"
    judged = '{event: "decision", kind: "judge", from_stage: "small", to_stage: "fallback", sampled: true}'
    moved = '{event: "decision", kind: "fallback", move: "advance", to_stage: "medium", codes: ["pilot", "confident"]}'
    stops = shown("timeline", f'stops({{events: [{judged}, {moved}], stage: "medium", state: "queued"}})')
    assert [stop["what"] for stop in stops] == ["submitted", "answered", "pilot asks medium", "queued …"]


def test_queries_of_a_batch_are_found_on_its_page(stage: Stage) -> None:
    # In one step: the page draws its tables again meanwhile.
    stage.script("document.getElementById(arguments[0]).click()", f"{stage.batch}-page")
    stage.until(lambda: stage.table("tiers"))
    # A reason of a climb, of queries with -2 in their name.
    (some,) = stage.rows(
        "SELECT left(w.reason, 12) AS part, count(DISTINCT p.query_id) AS n"
        " FROM (SELECT reasons[1] AS reason FROM decisions WHERE kind = 'fallback' ORDER BY id LIMIT 1) AS w"
        " JOIN decisions AS d ON strpos(array_to_string(d.reasons, '; '), left(w.reason, 12)) > 0"
        " JOIN prompts AS p ON p.query_id = d.query_id AND p.custom_id LIKE '%-2%' GROUP BY 1"
    )
    stage.driver.find_element("id", "custom-id").send_keys("-2")
    stage.driver.find_element("id", "reason").send_keys(some["part"].upper(), Keys.ENTER)
    stage.until(lambda: f"{some['n']:,} found." == stage.text("#found"))
    assert len(stage.cells("#matches tbody tr")) == some["n"] > 0
    name = stage.cells("#matches tbody tr")[0][0]
    stage.driver.find_element("css selector", "#matches tbody button").click()
    stage.until(lambda: name in stage.text("#timeline .outcome"))
    assert stage.driver.find_elements("css selector", "#timeline .map svg")
    for size, dark, picture in ((WIDE, False, "search"), (WIDE, True, "search-dark"), (NARROW, False, "search-narrow")):
        stage.look(size, dark=dark)
        assert stage.axe() == []
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
        stage.picture(f"batch-{picture}", size, dark=dark, of="section[aria-labelledby=queries-title]")
    stage.look(WIDE)
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)


def test_a_query_is_found_by_its_custom_id_and_its_track_is_drawn(stage: Stage) -> None:
    (row,) = stage.rows(
        "SELECT p.custom_id, q.id FROM queries AS q JOIN prompts AS p ON p.query_id = q.id"
        " ORDER BY q.escalations DESC, q.id LIMIT 1"
    )
    stage.driver.find_element("id", "custom-id").send_keys(row["custom_id"], Keys.ENTER)
    stage.until(lambda: stage.driver.find_elements("css selector", "#timeline .map svg"))
    events = stage.rows(f"SELECT id FROM decisions WHERE query_id = {row['id']}") + stage.rows(
        f"SELECT id FROM calls WHERE query_id = {row['id']}"
    )
    assert len(stage.driver.find_elements("css selector", "#timeline .events > li")) == len(events)
    # One stop per event, and one at each end.
    assert len(stage.driver.find_elements("css selector", "#timeline .stop")) == len(events) + 2
    track = str(stage.driver.find_element("css selector", "#timeline svg").get_attribute("aria-label"))
    assert "fallback: up to" in track
    assert row["custom_id"] in stage.text("#timeline .outcome")
    stage.picture("dashboard-story", WIDE, of="section[aria-labelledby=timeline-title]")


def test_words_of_a_user_stay_words(stage: Stage) -> None:
    field = stage.driver.find_element("id", "custom-id")
    field.clear()
    field.send_keys("<img src=x onerror=alert(1)>", Keys.ENTER)
    stage.until(lambda: "in the newest batches" in stage.text("#found"))
    assert "<img src=x" in stage.text("#found")
    assert not stage.driver.find_elements("css selector", "#found img")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    stage.until(lambda: not stage.text("#found"))


@pytest.mark.parametrize(("size", "dark"), [(WIDE, False), (WIDE, True), (NARROW, False)])
def test_axe_finds_nothing(stage: Stage, size: tuple[int, int], dark: bool) -> None:
    if not AXE.exists():
        pytest.skip("ACCESSIBILITY WAS NOT CHECKED: run tests/acceptance/browser.sh, which fetches axe-core")
    stage.look(size, dark=dark)
    time.sleep(0.6)
    assert stage.axe() == []
    width = stage.script("return document.documentElement.scrollWidth")
    assert width <= size[0], f"the page is {width} px wide in a window of {size[0]}"
    stage.picture(f"dashboard-{'dark' if dark else 'light' if size == WIDE else 'narrow'}", size, dark=dark)
    stage.look(WIDE)


def focused(stage: Stage) -> str:
    return str(
        stage.script(
            "const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.name || e.textContent"
        )
    )


def test_the_keyboard_reaches_everything_in_the_order_of_reading(stage: Stage) -> None:
    stage.driver.get(stage.url)
    stage.until(lambda: stage.is_live() and stage.table("providers"))
    order = []
    for _ in range(18):
        stage.driver.switch_to.active_element.send_keys(Keys.TAB)
        order.append(focused(stage))
        visible = stage.script(
            "const o = getComputedStyle(document.activeElement).outlineStyle;"
            " return o !== 'none' || document.activeElement.type === 'radio'"
        )
        assert visible, f"{order[-1]} does not show that it has the focus"
        if order[-1] == "Find":
            break
    # A table is a stop of its own where it may have to be scrolled.
    tables = ("Queues", "Batches", "Providers")
    # Workloads are links once the feeder has summed their spend.
    assert [each for each in order if each not in tables and not each.startswith("prompt-")] == [
        "Skip to the figures",
        "Live",
        "Submit",
        "Routers and keys",
        "API key",
        f"{stage.batch}-page",
        f"{stage.batch}-0",  # download
        "span",
        "split",
        "label answers",
        "custom-id",
        "Find",
    ]
    assert [each for each in order if each in (*tables, "span")] == [
        each for each in ("Queues", "Batches", "span", "Providers") if each in order
    ]


def test_a_table_is_forecast_and_then_submitted_on_the_page(stage: Stage, tmp_path: Path) -> None:
    table = tmp_path / "bills.csv"
    table.write_text("id,subject,body\n" + "".join(f"bill-{n},Bill {n},Explain item {n}.\n" for n in range(40)))
    options = ("--prompt", "Answer: {{subject}} {{body}}", "--id", "id", "--budget", "5", "--dry-run", "--json")
    stage.driver.find_element("link text", "Submit").click()
    stage.until(lambda: stage.driver.find_elements("id", "check"))
    fill(stage, {"file": str(table), "budget": "5"}, check="error")
    assert "No option names the one with the question" in stage.text("#did")
    assert not stage.driver.find_element("id", "submit").is_displayed()
    fill(stage, {"prompt": "Answer: {{subject}} {{body}}", "id-column": "id"}, check="40 queries are valid")
    told = json.loads(stage.command("submit", str(table), *options))["plan"]
    assert {row[0]: number(row[-1]) for row in stage.cells("#plan tbody tr")} == {
        name: pytest.approx(tier["cost_usd"], rel=0.01, abs=1e-6) for name, tier in told["tiers"].items()
    }
    assert number(stage.text("#facts dd b")) == pytest.approx(told["cost_usd"]["expected"], rel=0.01)
    assert "$5.000 covers the expected cost" in stage.text("#facts")
    for size, dark, name in ((WIDE, False, "submit"), (WIDE, True, "submit-dark"), (NARROW, False, "submit-narrow")):
        stage.look(size, dark=dark)
        assert stage.axe() == []
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
        stage.picture(name, size, dark=dark)
    stage.look(WIDE)
    assert stage.rows("SELECT 1 FROM files WHERE content = 'stored'") == []  # the checked file is gone
    assert stage.rows("SELECT 1 FROM batches WHERE source = 'bills.csv'") == []
    stage.driver.find_element("id", "submit").click()
    stage.until(lambda: "Submitted as" in stage.text("#did"))
    (batch,) = stage.rows(
        "SELECT b.total, g.cap_usd, count(*) FILTER (WHERE p.custom_id LIKE 'bill-%') AS named FROM batches AS b"
        " JOIN budgets AS g ON g.batch_id = b.id JOIN prompts AS p ON p.batch_id = b.id"
        f" WHERE b.public_id = '{stage.text('#did code')}' GROUP BY 1, 2"
    )
    assert (batch["total"], float(batch["cap_usd"]), batch["named"]) == (40, 5.0, 40)


def test_pasted_lines_are_checked_anew_after_each_change(stage: Stage) -> None:
    stage.driver.get(f"{stage.url}/submit.html")
    fill(stage, {"pasted": '{"query": "One?"}\n{"query": 2}'}, check="1 error")
    assert "line 2, query" in stage.text("#did .errors")
    fill(stage, {"pasted": "What is one?\nWhat is two?"}, check="2 queries are valid")
    assert stage.driver.find_element("id", "submit").is_displayed()
    fill(stage, {"window": "soon"})
    assert not stage.driver.find_element("id", "submit").is_displayed()
    fill(stage, {}, check="completion_window")
    assert stage.rows("SELECT 1 FROM files WHERE filename = 'pasted.txt'") == []
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)


def fill(stage: Stage, fields: dict[str, str], *, check: str = "") -> None:
    """Fills the form; with ``check`` also has it checked, until the page says that."""
    for id_, text in fields.items():
        field = stage.driver.find_element("id", id_)
        if id_ != "file":
            field.clear()
        field.send_keys(text)
    if check:
        stage.driver.find_element("id", "check").click()
        stage.until(lambda: check in stage.text("#did"), patience_s=60)


@pytest.mark.parametrize("where", ["the dashboard", "its page"])
def test_a_batch_is_paused_resumed_cancelled_and_downloaded(stage: Stage, tmp_path: Path, where: str) -> None:
    file = tmp_path / "held.txt"
    file.write_text("".join(f"Explain the number {n} in detail.\n" for n in range(300)))
    submitted = stage.command("submit", str(file), "--budget", "0.002", "--budget-policy", "hold", "--json")
    batch = json.loads(submitted.splitlines()[-1])["batch_id"]
    downloads = tmp_path / "downloads"
    stage.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    if where == "its page":
        stage.driver.get(f"{stage.url}/batch.html#{batch}")

    def press(words: str) -> None:
        press_later(stage, f'button[aria-label="{words} held.txt, {batch}"]')

    def stands(column: str) -> bool:
        (row,) = stage.rows(f"SELECT {column} IS NOT NULL AS set FROM batches WHERE public_id = '{batch}'")
        return bool(row["set"])

    def status() -> str:
        if where == "its page":
            return stage.text("#facts dd:last-child").rpartition("; ")[2]
        return next(row[-1] for name, row in stage.table("batches").items() if batch in name)

    press("pause")
    stage.until(lambda: "paused" in stage.text("#did"))
    assert stands("paused_at")
    stage.until(lambda: status().startswith("paused"))
    page, section = ("batch", "batch-title") if where == "its page" else ("dashboard", "batches-title")
    for size, dark, name in ((WIDE, False, "actions"), (WIDE, True, "actions-dark"), (NARROW, False, "actions-narrow")):
        stage.look(size, dark=dark)
        stage.picture(f"{page}-{name}", size, dark=dark, of=f"section[aria-labelledby={section}]")
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
    stage.look(WIDE)
    press("resume")
    stage.until(lambda: "resumed" in stage.text("#did"))
    assert not stands("paused_at")
    press("raise budget")
    dialog = WebDriverWait(stage.driver, 60).until(alert_is_present())
    dialog.send_keys("0.0025")
    dialog.accept()
    stage.until(lambda: "budget raised to $0.0025" in stage.text("#did"))
    (budget,) = stage.rows(
        f"SELECT g.cap_usd FROM budgets AS g JOIN batches AS b ON b.id = g.batch_id WHERE b.public_id = '{batch}'"
    )
    assert float(budget["cap_usd"]) == 0.0025
    press("cancel")
    WebDriverWait(stage.driver, 60).until(alert_is_present()).dismiss()
    assert not stands("cancelled_at")
    press("cancel")
    WebDriverWait(stage.driver, 60).until(alert_is_present()).accept()
    stage.until(lambda: stands("cancelled_at"))
    stage.until(lambda: status() == "ended" if where == "its page" else status().startswith("cancelled"))
    (cancelled,) = stage.rows(
        "SELECT count(*) AS n FROM queries AS q JOIN batches AS b ON b.id = q.batch_id"
        f" WHERE b.public_id = '{batch}' AND q.state = 'cancelled'"
    )

    def downloaded() -> bool:  # its files are made a moment after its end
        press("download")
        time.sleep(0.5)
        return "downloaded" in stage.text("#did")

    stage.until(downloaded)
    errors = stage.until(lambda: next(iter(downloads.glob(f"{batch}.errors*.jsonl")), None))
    stage.until(lambda: errors.read_text().count("\n") == cancelled["n"])
    if where == "its page":
        stage.driver.find_element("link text", "Live").click()
        stage.until(stage.is_live)


def test_failed_queries_start_again_at_a_press(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "poor.txt"
    file.write_text("".join(f"Explain the number {n} in detail.\n" for n in range(20)))
    submitted = stage.command("submit", str(file), "--budget", "0", "--budget-policy", "fail", "--json")
    batch = json.loads(submitted.splitlines()[-1])["batch_id"]
    stage.driver.get(f"{stage.url}/batch.html#{batch}")
    stage.until(lambda: "0 done, 20 failed" in stage.text("#facts"))
    press_later(stage, f'button[aria-label="retry failed poor.txt, {batch}"]')
    stage.until(lambda: "are retried" in stage.text("#did"))
    (resumed,) = stage.rows(
        "SELECT count(*) AS n FROM decisions AS d JOIN batches AS b ON b.id = d.batch_id"
        f" WHERE b.public_id = '{batch}' AND d.kind = 'resume'"
    )
    assert resumed["n"] == 20
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)
    press_later(stage, f'#batches button[aria-label="retry failed poor.txt, {batch}"]')  # they failed again
    stage.until(lambda: "are retried" in stage.text("#did"))


def test_spend_on_the_page_is_that_of_sql(stage: Stage) -> None:
    (calls,) = stage.rows("SELECT count(*) AS n, sum(cost_usd) AS usd FROM calls WHERE outcome IS NOT NULL")
    # The feeder sums once a minute: it has, and is not waited for.
    stage.until(lambda: stage.rows("SELECT 1 FROM spend_daily") and stage.rows("SELECT 1 FROM workload_sums"))
    stage.on_engine(sum_spend)

    def shown() -> bool:  # another split reads anew
        for split in ("key", "tenant"):
            stage.script("document.querySelector(`input[name=split][value=${arguments[0]}]`).click()", split)
        time.sleep(1.0)
        return f"in {calls['n']:,} calls" in stage.text("#spend .lead")

    stage.until(shown)
    assert number(stage.text("#spend .lead b")) == pytest.approx(float(calls["usd"]), rel=0.002)
    assert stage.text("#spend .bars li .source") == "default"
    tiers = stage.rows("SELECT tier, sum(cost_usd) AS usd FROM calls WHERE outcome IS NOT NULL GROUP BY 1")
    legend = [each.text.split() for each in stage.driver.find_elements("css selector", "#spend .legend li")]
    assert {tier: number(usd) for tier, usd in legend} == {
        row["tier"]: pytest.approx(float(row["usd"]), rel=0.002, abs=5e-5) for row in tiers
    }
    for size, dark, name in ((WIDE, False, "spend"), (WIDE, True, "spend-dark"), (NARROW, False, "spend-narrow")):
        stage.look(size, dark=dark)
        stage.picture(f"dashboard-{name}", size, dark=dark, of="section[aria-labelledby=spend-title]")
    stage.look(WIDE)
    (top, *_) = stage.rows(
        "SELECT workload, sum(calls) AS calls, sum(cost_usd) AS usd FROM spend_daily"
        " WHERE workload <> '' GROUP BY 1 ORDER BY usd DESC"
    )
    stage.script("document.querySelector('input[name=split][value=workload]').click()")
    stage.until(lambda: stage.driver.find_elements("link text", top["workload"]))
    find = "[...document.querySelectorAll('a')].find((link) => link.textContent === arguments[0]).click()"
    stage.script(find, top["workload"])
    stage.until(lambda: f"in {top['calls']:,} calls" in stage.text("#spend .lead"))
    assert number(stage.text("#spend .lead b")) == pytest.approx(float(top["usd"]), rel=0.002)
    assert "was labeled" in stage.text("#grades")
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)


ROUTED = """
SELECT r.by, count(*) AS answers FROM (
    SELECT CASE WHEN d.router IN ('pilot', 'quality_policy') THEN 'policy'
                ELSE coalesce(d.detail ->> 'version', d.router) END AS by
    FROM answers AS a
    JOIN LATERAL (SELECT * FROM decisions AS d WHERE d.query_id = a.query_id AND d.kind = 'route' ORDER BY d.id LIMIT 1)
        AS d ON d.detail ->> 'workload' = 'tickets') AS r
GROUP BY r.by
"""


def test_what_routed_a_workload_stands_side_by_side_with_figures_of_sql(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "tickets.jsonl"
    lines = [
        {"id": f"t-{n}", "query": f"What is {n} plus {n}?", "metadata": {"workload": "tickets"}} for n in range(160)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    batches = []
    for floor in (["--quality", "0.8", "--pilot", "80"], []):
        said = stage.command("submit", str(file), *floor, "--wait", "--json")
        batches.append(json.loads(said.splitlines()[-1])["batch_id"])
    certified, plain = batches
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"custom_id": f"t-{n}", "correct": n % 5 > 0}) + "\n" for n in range(40)))
    stage.command("label", plain, "--from", str(labels))
    stage.until(lambda: not stage.rows("SELECT 1 FROM calls WHERE outcome IS NULL"))  # audits follow the end
    stage.rows("UPDATE batches SET summed_at = NULL WHERE ended_at IS NOT NULL RETURNING id")
    stage.on_engine(sum_workloads)
    stage.driver.get(f"{stage.url}/workload.html#tickets")

    def shown() -> bool:
        stage.driver.refresh()
        stage.until(lambda: stage.text("#versions"))
        return sum(int(number(row[3])) for row in stage.cells("#versions tbody tr")) == 320

    stage.until(shown)
    by_sql = {row["by"]: row["answers"] for row in stage.rows(ROUTED)}
    (spent,) = stage.rows(
        "SELECT sum(c.cost_usd) AS usd FROM calls AS c JOIN batches AS b ON b.id = c.batch_id"
        f" WHERE b.public_id IN ('{certified}', '{plain}')"
    )
    (heads,) = stage.cells("#versions thead tr")
    told = {row[0]: dict(zip(heads, row, strict=True)) for row in stage.cells("#versions tbody tr")}
    assert len(told) == len(by_sql)
    for name, row in told.items():
        by = "policy" if certified in name else next(by for by in by_sql if by in name)
        assert int(number(row["answers"])) == by_sql[by]
    assert sum(number(row["cost"]) for row in told.values()) == pytest.approx(float(spent["usd"]), rel=0.002)
    report = json.loads(stage.command("report", certified, "--json"))
    policy = next(row for name, row in told.items() if certified in name)
    assert number(policy["cost"]) == pytest.approx(report["cost_usd"], rel=0.002)
    assert number(policy["top tier alone"]) == pytest.approx(report["baseline_cost_usd"], rel=0.002)
    assert abs(number(policy["saved"]) / 100 - abs(report["saving_share"])) < 0.001
    assert "floor 80 %" in policy["quality"]
    assert any("by" in row["quality"] and "labels" in row["quality"] for row in told.values())
    graded = stage.rows("SELECT count(*) AS n, avg(grade) AS grade FROM labels WHERE tier = 'small'")
    assert f"{100 * graded[0]['grade']:.1f} %" in stage.text("#grades") or not graded[0]["n"]
    for size, dark, name in ((WIDE, False, "light"), (WIDE, True, "dark"), (NARROW, False, "narrow")):
        stage.look(size, dark=dark)
        assert stage.axe() == []
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
        stage.picture(f"workload-{name}", size, dark=dark)
    stage.look(WIDE)
    stage.driver.find_element("link text", "Live").click()
    stage.until(stage.is_live)


def test_a_lost_connection_is_reported_and_comes_back_by_itself(stage: Stage) -> None:
    (api,) = re.findall(r"^ *api \(process (\d+)\)$", (stage.home / "up.log").read_text(), re.M)
    stage.note("`${document.body.className}: ${document.getElementById('link').textContent}`")
    os.kill(int(api), signal.SIGKILL)
    stage.until(lambda: any(each.startswith("stale: Connection lost, retrying in") for each in stage.noted()))
    stage.until(stage.is_live)
    assert not stage.script("return document.body.classList.contains('stale')")


def test_with_keys_each_tenant_sees_its_own_and_the_key_is_in_no_address(stage: Stage) -> None:
    key = stage.command("keys", "create", "page", "--tenant", "elsewhere").strip().split()[-1]
    time.sleep(5.5)  # until the service knows that there are keys now
    stage.driver.get(stage.url)
    stage.until(lambda: "API key" in stage.text("#link"))
    field = stage.driver.find_element("id", "key-field")
    stage.until(field.is_displayed)
    assert stage.tile("Open queries") == ""
    field.send_keys(key, Keys.ENTER)
    stage.until(stage.is_live)
    stage.until(lambda: "elsewhere" in stage.text("#whose"))
    assert "No batches yet" in stage.text("#batches")
    assert "No answers in" in stage.text("#mix")
    asked = stage.script("return performance.getEntriesByType('resource').map((e) => e.name).concat(location.href)")
    assert all(key not in each for each in asked)
    assert stage.script("return Object.values(sessionStorage)") == [key]
    assert stage.script("return localStorage.length + document.cookie.length") == 0


def test_a_viewer_is_offered_nothing_that_would_be_refused(stage: Stage) -> None:
    key = stage.command("keys", "create", "looker", "--role", "viewer").strip().split()[-1]
    stage.script("sessionStorage.setItem('pointsman-key', arguments[0])", key)
    stage.driver.get(stage.url)
    buttons = (
        "return [...document.querySelectorAll('main button')]"
        ".filter((b) => b.checkVisibility()).map((b) => b.textContent)"
    )
    stage.until(lambda: "download" in stage.script(buttons))
    assert set(stage.script(buttons)) == {"download", "Find"}
    stage.driver.get(f"{stage.url}/batch.html#{stage.batch}")
    stage.until(lambda: "download" in stage.script(buttons))
    assert set(stage.script(buttons)) == {"download", "Find"}
    stage.driver.get(f"{stage.url}/admin.html")
    stage.until(lambda: stage.table("routers"))
    assert stage.script(buttons) == []
    assert not stage.driver.find_element("id", "keys-panel").is_displayed()
    stage.driver.get(f"{stage.url}/submit.html")
    stage.until(lambda: "can only read" in stage.text("#did"))
    assert stage.script(buttons) == []
    stage.driver.get(stage.url.replace("/dashboard", "/label"))
    stage.until(lambda: "can only read" in stage.text("#news"))
    assert [each.split()[-1] for each in stage.script(buttons)] == ["Skip", "Undo"]
    stage.driver.get(stage.url)
    stage.until(stage.is_live)


def test_an_admin_manages_keys_and_routers_on_the_page(stage: Stage) -> None:
    stage.on_engine(lambda engine: register_shipped(engine, "v1"))
    key = stage.command("keys", "create", "boss", "--role", "admin").strip().split()[-1]
    stage.script("sessionStorage.setItem('pointsman-key', arguments[0])", key)
    stage.driver.find_element("link text", "Routers and keys").click()
    stage.until(lambda: stage.table("keys") and stage.table("routers"))
    stage.driver.find_element("id", "key-name").send_keys("reader")
    stage.script("document.getElementById('key-role').value = 'viewer'")
    stage.driver.find_element("id", "key-name").send_keys(Keys.ENTER)
    stage.until(lambda: "not shown again" in stage.text("#made"))
    reader = stage.text("#made code")
    (row,) = stage.rows("SELECT id, role, tenant FROM api_keys WHERE name = 'reader'")
    assert (row["role"], row["tenant"], row["id"] in reader) == ("viewer", "default", True)
    told = stage.rows("SELECT name, role FROM api_keys WHERE tenant = 'default'")
    stage.until(lambda: {cells[1]: cells[2] for cells in stage.cells("#keys tbody tr")} == {
        key["name"]: key["role"] for key in told}, patience_s=30)  # fmt: skip
    stage.driver.refresh()  # the new key is shown once
    stage.until(lambda: stage.table("keys") and stage.table("routers"))
    assert stage.text("#made") == ""
    for size, dark, name in ((WIDE, False, "admin"), (WIDE, True, "admin-dark"), (NARROW, False, "admin-narrow")):
        stage.look(size, dark=dark)
        assert stage.axe() == []
        assert stage.script("return document.documentElement.scrollWidth") <= size[0]
        stage.picture(name, size, dark=dark)
    stage.look(WIDE)
    promote_and_roll_back(stage)
    press_and_accept(stage, 'button[aria-label="revoke reader"]')
    stage.until(lambda: "reader is revoked" in stage.text("#did"))
    assert stage.rows("SELECT 1 FROM api_keys WHERE name = 'reader' AND revoked_at IS NULL") == []
    stage.driver.get(f"{stage.url}/workload.html#tickets")
    promote_and_roll_back(stage)


def promote_and_roll_back(stage: Stage) -> None:
    """On a page that has the buttons."""
    newest = "SELECT name, promoted_by, undone_by FROM router_promotions ORDER BY id DESC LIMIT 1"
    press_and_accept(stage, 'button[aria-label="promote v1"]')
    stage.until(lambda: "v1 serves" in stage.text("#did"))
    assert stage.rows(newest) == [{"name": "v1", "promoted_by": "boss", "undone_by": None}]
    press_and_accept(stage, "#rollback")
    stage.until(lambda: "Rolled back" in stage.text("#did"))
    assert stage.rows(newest) == [{"name": "v1", "promoted_by": "boss", "undone_by": "boss"}]


def press_later(stage: Stage, selector: str) -> None:
    """Presses a button as soon as it is there."""
    # Later: a script whose click opens a dialog does not return.
    click = "const b = document.querySelector(arguments[0]); b && setTimeout(() => b.click()); return Boolean(b)"
    stage.until(lambda: stage.script(click, selector))


def press_and_accept(stage: Stage, selector: str) -> None:
    press_later(stage, selector)
    WebDriverWait(stage.driver, 60).until(alert_is_present()).accept()


def test_the_browser_had_nothing_to_complain_of(stage: Stage) -> None:
    said = [entry["message"] for entry in stage.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    expected = re.compile(
        r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|status of 40[01]|ERR_EMPTY_RESPONSE|CONNECTION_RESET"
        r"|/(none|%25)[/?]?.*status of 404"  # names that the tests made up
    )
    assert [each for each in said if not expected.search(each)] == []
