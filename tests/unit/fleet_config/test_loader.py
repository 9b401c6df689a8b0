"""fleet.toml: what it may say, and what each mistake in it is answered with."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fleet_config import FleetError, check_fleet, load_fleet
from routing.fleet import BudgetPolicy, Budgets, Fleet, LlmRouter, Protocol, RouterPolicy, Timing, Workers
from routing.lanes.lane import BatchLimits, Lane
from routing.outcome import FailureKind, Usage
from routing.price import Price
from routing.price_list import PriceList
from settings import ROOT

SMALLEST = """
[fleet]
name = "tiny"

[providers.home]
kind = "openai"
base_url = "http://127.0.0.1:11434/v1/"

[tiers.small]
concurrency = 4

[models.one]
provider = "home"
tier = "small"
price = { input_usd_per_mtok = 1, output_usd_per_mtok = 2.5 }
context_tokens = 8192
"""


EMBEDDINGS = (
    SMALLEST
    + """
[tiers.vectors]
endpoint = "embeddings"
concurrency = 2

[models.embed]
provider = "home"
tier = "vectors"
price = { input_usd_per_mtok = 0.02, output_usd_per_mtok = 0 }
context_tokens = 512
"""
)

SECOND_EMBEDDING = """
[models.second]
provider = "home"
model = "embed"
tier = "vectors"
price = { input_usd_per_mtok = 0.03, output_usd_per_mtok = 0 }
context_tokens = 512
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "fleet.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def problems(path: Path, environ: dict[str, str] | None = None) -> dict[str, str]:
    """What is wrong with a file, by key."""
    with pytest.raises(FleetError) as caught:
        load_fleet(path, environ or {})
    message = str(caught.value)
    assert message.startswith(str(path))
    assert all(str(problem) in message for problem in caught.value.problems)
    return {problem.key: f"{problem.wrong} {problem.fix}" for problem in caught.value.problems}


# What is shipped


@pytest.mark.parametrize(
    "path", ["fleet.toml", *(str(p.relative_to(ROOT)) for p in ROOT.glob("examples/fleets/*.toml"))]
)
def test_every_fleet_that_is_shipped_is_sound(path: str) -> None:
    checked = check_fleet(ROOT / path, {})
    # Two of them have two tiers: what is cheaper than the judge is the model that it would judge.
    assert {problem.key.rpartition(".")[2] for problem in checked.warnings} <= {"api_key_env", "judge"}


def test_the_shipped_fleet_needs_no_key_and_says_that_it_is_simulated(shipped_fleet: Fleet) -> None:
    assert shipped_fleet.simulated
    assert all(provider.api_key_env is None for provider in shipped_fleet.providers.values())
    assert all(provider.base_url.startswith("simulator:/") for provider in shipped_fleet.providers.values())
    assert {provider.kind for provider in shipped_fleet.providers.values()} == set(Protocol)


def test_the_shipped_ladder_can_fail_over_at_every_rung(shipped_fleet: Fleet) -> None:
    assert shipped_fleet.ladder == ("small", "medium", "large")
    for tier in shipped_fleet.chat_tiers:
        assert len({model.provider for model in shipped_fleet.deployments(tier)}) >= 2


def test_the_shipped_numbers_that_repeat_a_default_repeat_it_truly(shipped_fleet: Fleet) -> None:
    assert shipped_fleet.timing == Timing()
    assert shipped_fleet.budgets == Budgets()
    assert shipped_fleet.workers == Workers()
    assert shipped_fleet.router == RouterPolicy(llm=LlmRouter("gpt-5-nano"))


def test_the_prices_beside_the_shipped_models_are_those_that_are_looked_up(shipped_fleet: Fleet) -> None:
    # The comments are for people; this keeps them true when the table of prices is updated.
    text = (ROOT / "fleet.toml").read_text()
    for model in shipped_fleet.models.values():
        section = text.partition(f'[models."{model.name}"]')[2].partition("[models.")[0]
        assert f"${model.price.input_usd_per_mtok:.2f} in, ${model.price.output_usd_per_mtok:.2f} out" in section


# What a file becomes


def test_the_smallest_fleet_has_the_defaults_of_the_records(write: Any) -> None:
    path = write(SMALLEST)
    fleet = load_fleet(path, {})
    assert fleet.name == "tiny"
    assert not fleet.simulated
    assert fleet.ladder == ("small",)
    assert fleet.tiers["small"].queue == "small"
    assert fleet.tiers["small"].models == ("one",)
    assert fleet.models["one"].model == "one"
    assert fleet.providers["home"].base_url == "http://127.0.0.1:11434/v1"
    assert fleet.router == RouterPolicy()
    assert fleet.budgets == Budgets()
    assert fleet.timing == Timing()
    assert fleet.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_embedding_tier_is_off_the_ladder_and_takes_no_part_in_what_is_for_chat(write: Any) -> None:
    tier = '[tiers.vectors]\nendpoint = "embeddings"\nconcurrency = 2\n'
    before = EMBEDDINGS.replace(tier, "").replace("[tiers.small]", f"{tier}[tiers.small]")
    fleet = load_fleet(write(before + SECOND_EMBEDDING), {})
    assert list(fleet.tiers) == ["vectors", "small"]
    assert (fleet.ladder, fleet.chat_tiers, fleet.embedding_tier) == (("small",), ("small",), "vectors")
    embed = fleet.models["embed"]
    assert (embed.embeds, embed.max_output_tokens, embed.lanes) == (True, 0, (Lane.STANDARD,))
    assert not fleet.models["one"].embeds
    assert [model.name for model in fleet.pinned("embed", "vectors")] == ["embed", "second"]
    assert embed.price.cost_usd(Usage(1_000_000)) == 0.02
    prices = PriceList.of(fleet)
    assert (prices.tiers, [model.name for model in prices.models]) == (("small",), ["one"])


def test_the_list_price_of_an_embedding_model_needs_none_of_output(write: Any) -> None:
    text = EMBEDDINGS.replace("models.embed", 'models."text-embedding-3-small"')
    text = text.replace("{ input_usd_per_mtok = 0.02, output_usd_per_mtok = 0 }", '"look up"')
    price = load_fleet(write(text), {}).models["text-embedding-3-small"].price
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok, price.service_tiers) == (0.02, 0.0, ())


def test_an_own_price_is_taken_and_names_the_file_as_its_source(write: Any) -> None:
    fleet = load_fleet(write(SMALLEST.replace("2.5 }", "2.5, cached_input_usd_per_mtok = 0.1 }")), {})
    price = fleet.models["one"].price
    assert price == Price(1.0, 2.5, 0.1, version=f"fleet:{fleet.digest[:12]}")


def test_a_cached_token_costs_as_much_as_a_fresh_one_unless_said_otherwise(write: Any) -> None:
    assert load_fleet(write(SMALLEST), {}).models["one"].price.cached_input_usd_per_mtok == 1.0


def test_a_price_is_looked_up_by_the_name_on_the_wire_and_multiplied(write: Any) -> None:
    text = SMALLEST.replace("price = { input_usd_per_mtok = 1, output_usd_per_mtok = 2.5 }", 'price = "look up"')
    text = text.replace('tier = "small"', 'tier = "small"\nmodel = "gpt-4.1"\nprice_multiplier = 0.5')
    price = load_fleet(write(text), {}).models["one"].price
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok, price.multiplier) == (2.0, 8.0, 0.5)
    assert price.version.startswith("genai-prices")


def test_everything_that_may_be_said_arrives(write: Any) -> None:
    text = """
[fleet]
name = "all"
[providers.p]
kind = "google"
base_url = "https://example.org/v1"
api_key_env = "P_KEY"
deadline_s = 30
max_response_bytes = 1000
headers = { x-region = "eu" }
query = { version = "1" }
failover_on = ["auth", "safety"]
[tiers.low]
queue = "lows"
concurrency = 2
escalates_to = "high"
confidence_threshold = 1
hedge_after_p95 = true
[tiers.high]
concurrency = 1
[models.a]
provider = "p"
model = "A"
tier = "low"
price = { input_usd_per_mtok = 1, output_usd_per_mtok = 1 }
context_tokens = 100
max_output_tokens = 50
max_concurrency = 3
requests_per_min = 4
tokens_per_min = 5
weight = 2
categories = ["code", "maths"]
[models.b]
provider = "p"
tier = "high"
price = { input_usd_per_mtok = 2, output_usd_per_mtok = 2 }
context_tokens = 5000
[router]
stages = ["gate", "llm"]
quality_weight = 4
gate_sure = 0.8
classifier_sure = 0.6
classifier = "mine"
scorer = "judge"
exploration = 0.05
[router.llm]
model = "a"
queries_per_call = 5
deadline_s = 9
max_chars_per_query = 100
[budgets]
batch_usd = 1
tenant_day_usd = 2
policy = "degrade"
[timing]
lease_s = 31
window_s = 2
max_attempts = 3
backoff_s = 1
[workers]
pool = "solo"
chunks_in_flight = 2
prefetch = 3
"""
    fleet = load_fleet(write(text), {"P_KEY": "x"})
    provider, low, model = fleet.providers["p"], fleet.tiers["low"], fleet.models["a"]
    assert provider.kind is Protocol.GOOGLE
    assert (provider.api_key_env, provider.deadline_s, provider.max_response_bytes) == ("P_KEY", 30.0, 1000)
    assert (provider.headers, provider.query) == ({"x-region": "eu"}, {"version": "1"})
    assert provider.failover_on == {FailureKind.AUTH, FailureKind.SAFETY}
    assert (low.queue, low.concurrency, low.escalates_to) == ("lows", 2, "high")
    assert (low.confidence_threshold, low.hedge_after_p95, low.models) == (1.0, True, ("a",))
    assert (model.model, model.context_tokens, model.max_output_tokens, model.weight) == ("A", 100, 50, 2.0)
    assert (model.max_concurrency, model.requests_per_min, model.tokens_per_min) == (3, 4, 5)
    assert model.categories == {"code", "maths"}
    assert fleet.router == RouterPolicy(
        stages=("gate", "llm"),
        quality_weight=4.0,
        gate_sure=0.8,
        classifier_sure=0.6,
        classifier="mine",
        scorer="judge",
        exploration=0.05,
        llm=LlmRouter("a", queries_per_call=5, deadline_s=9.0, max_chars_per_query=100),
    )
    assert fleet.budgets == Budgets(1.0, 2.0, BudgetPolicy.DEGRADE)
    assert fleet.timing == Timing(31.0, 2.0, 3, 1.0)
    assert fleet.workers == Workers("solo", 2, 3)


def test_every_key_that_may_be_said_is_explained_in_the_shipped_fleet() -> None:
    from fleet_config.fleet_schema import TABLES, ConfidenceTable, LlmTable, PriceTable

    text = (ROOT / "fleet.toml").read_text()
    unexplained = [
        f"{table}.{key}"
        for table, schema in [
            *TABLES.items(),
            ("router.llm", LlmTable),
            ("price", PriceTable),
            ("confidence", ConfidenceTable),
        ]
        for key in schema.model_fields
        if key not in text
    ]
    assert unexplained == []


def test_the_simulators_address_is_filled_in_once_it_runs() -> None:
    path = ROOT / "fleet.toml"
    fleet = load_fleet(path, {"POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:8099/"})
    assert fleet.providers["anthropic"].base_url == "http://127.0.0.1:8099/anthropic/v1"
    assert fleet.digest == load_fleet(path, {}).digest


def test_a_fleet_has_aliases_and_a_baseline(write: Any) -> None:
    text = SMALLEST + '[aliases]\n"gpt-4o-mini" = "auto"\n"gpt-4o" = "one"\n"*" = "small"\n'
    fleet = load_fleet(write(text), {})
    assert [fleet.unaliased(name) for name in ("gpt-4o-mini", "gpt-4o", "o3", "one", "small", "auto", "")] == [
        *("auto", "one", "small"),
        *("one", "small", "auto", ""),
    ]
    assert load_fleet(write(SMALLEST), {}).unaliased("o3") == "o3"
    of_it = load_fleet(write(SMALLEST.replace('"tiny"', '"tiny"\nbaseline = "one"')), {})
    assert of_it.baseline is not None
    assert (of_it.baseline.model, of_it.baseline.price.output_usd_per_mtok) == ("one", 2.5)
    other = load_fleet(write(SMALLEST.replace('"tiny"', '"tiny"\nbaseline = "gpt-4.1"')), {})
    assert other.baseline is not None
    assert (other.baseline.model, other.baseline.price.output_usd_per_mtok) == ("gpt-4.1", 8.0)


LANES = 'lanes = ["batch", "flex", "standard"]'


def test_a_fleet_buys_at_standard_unless_it_says_otherwise(write: Any) -> None:
    model = load_fleet(write(SMALLEST), {}).models["one"]
    assert model.lanes == (Lane.STANDARD,)
    assert model.price.service_tiers == ()


def test_lanes_of_a_provider_are_those_of_its_models_at_half_price_unless_stated(write: Any) -> None:
    text = SMALLEST.replace('kind = "openai"', f'kind = "openai"\n{LANES}')
    text = text.replace("2.5 }", "2.5, service_tiers.flex = { input_usd_per_mtok = 0.7, output_usd_per_mtok = 2 } }")
    model = load_fleet(write(text), {}).models["one"]
    assert set(model.lanes) == set(Lane)
    rates = {lane: model.price.at_service_tier(lane) for lane in Lane}
    assert [rates[lane].input_usd_per_mtok for lane in (Lane.STANDARD, Lane.FLEX, Lane.BATCH)] == [1.0, 0.7, 0.5]
    assert rates[Lane.BATCH].cost_usd(Usage(1_000_000, 1_000_000)) == 1.75
    assert rates[Lane.BATCH].version.endswith("× 0.5")


def test_a_model_has_lanes_and_limits_of_its_own(write: Any) -> None:
    text = SMALLEST.replace('kind = "openai"', f'kind = "openai"\n{LANES}\nbatch_limits = {{ max_requests = 9 }}')
    text += 'lanes = ["standard", "batch"]\nbatch_limits = { max_enqueued_tokens = 5 }\n'
    model = load_fleet(write(text), {}).models["one"]
    assert model.lanes == (Lane.STANDARD, Lane.BATCH)
    assert model.batch_limits == BatchLimits(max_requests=9, max_enqueued_tokens=5)


def test_a_lane_that_saves_nothing_is_warned_of(write: Any) -> None:
    text = SMALLEST.replace(
        "2.5 }", "2.5, service_tiers.batch = { input_usd_per_mtok = 1, output_usd_per_mtok = 2.5 } }"
    )
    found = warned(write(text + 'lanes = ["standard", "batch"]\n'), {})
    assert "does not cost less than standard" in found["models.one.lanes"]


# What is wrong, in words


def replaced(old: str, new: str) -> str:
    assert old in SMALLEST
    return SMALLEST.replace(old, new)


MISTAKES = [
    ("lanes without standard", SMALLEST + 'lanes = ["batch"]\n', "models.one.lanes", 'Add "standard".'),
    ("a lane twice", SMALLEST + 'lanes = ["standard", "standard"]\n', "models.one.lanes", "Name each lane once."),
    ("an unknown lane", SMALLEST + 'lanes = ["standard", "slow"]\n', "models.one.lanes.1", "'flex' or 'batch'"),
    (
        "flex where there is none",
        replaced('kind = "openai"', 'kind = "anthropic"\nlanes = ["standard", "flex"]'),
        "providers.home.lanes",
        'Remove "flex".',
    ),
    (
        "a window that is none",
        SMALLEST + "batch_limits = { window_s = 1 }\n",
        "models.one.batch_limits.window_s",
        "greater than or equal to 60",
    ),
    (
        "a misspelt limit",
        SMALLEST + "batch_limits = { max_request = 1 }\n",
        "models.one.batch_limits.max_request",
        "Did you mean max_requests?",
    ),
    ("an alias for nothing", SMALLEST + '[aliases]\ngpt = "oen"\n', "aliases.gpt", "Did you mean one?"),
    ("an alias of a known name", SMALLEST + '[aliases]\none = "auto"\n', "aliases.one", "Remove the alias."),
    ("an alias of a number", SMALLEST + "[aliases]\ngpt = 4\n", "aliases.gpt", "valid string"),
    ("aliases that are not a table", "aliases = 4\n" + SMALLEST, "aliases", "is not a table"),
    (
        "a baseline without a price",
        SMALLEST.replace('"tiny"', '"tiny"\nbaseline = "my-own"'),
        "fleet.baseline",
        "Name a model of this fleet",
    ),
    ("a baseline beside its table", 'baseline = "one"\n' + SMALLEST, "baseline", "[fleet]. Move it there."),
    ("an unknown table", SMALLEST + "[routr]\n", "routr", "Did you mean router?"),
    (
        "an unknown key",
        replaced("concurrency = 4", "concurency = 4"),
        "tiers.small.concurency",
        "Did you mean concurrency?",
    ),
    ("a missing key", replaced("concurrency = 4", ""), "tiers.small.concurrency", "is missing. Add it."),
    ("a missing table", SMALLEST.partition("[models")[0], "models", 'Add a [models."NAME"]'),
    ("a value in place of a table", SMALLEST + "[router]\nllm = 3\n", "router.llm", "is not a table"),
    (
        "a word in place of a number",
        replaced("concurrency = 4", 'concurrency = "4"'),
        "tiers.small.concurrency",
        "integer",
    ),
    ("no concurrency", replaced("concurrency = 4", "concurrency = 0"), "tiers.small.concurrency", "greater than 0"),
    ("a truth in place of a number", SMALLEST + "[timing]\nlease_s = true\n", "timing.lease_s", "must be a number"),
    ("no number at all", SMALLEST + "[router]\ngate_sure = nan\n", "router.gate_sure", "finite"),
    (
        "a threshold of more than 1",
        replaced("concurrency = 4", "concurrency = 4\nconfidence_threshold = 70"),
        "tiers.small.confidence_threshold",
        "less than or equal to 1",
    ),
    (
        "an unknown protocol",
        replaced('"openai"', '"cohere"'),
        "providers.home.kind",
        "'openai', 'anthropic' or 'google'",
    ),
    (
        "a router that is none",
        SMALLEST + '[router]\nstages = ["gat"]\n',
        "router.stages.0",
        "'gate', 'classifier' or 'llm'",
    ),
    ("no router", SMALLEST + "[router]\nstages = []\n", "router.stages", "at least 1"),
    ("a router twice", SMALLEST + '[router]\nstages = ["gate", "gate"]\n', "router.stages", "twice"),
    ("an empty workload", SMALLEST + "[workloads.tickets]\n", "workloads.tickets", "is empty"),
    (
        "an age without a unit",
        SMALLEST + '[workloads.tickets]\nreuse = "7"\n',
        "workloads.tickets.reuse",
        "7d",
    ),
    (
        "a rule for no tier",
        SMALLEST + '[workloads.tickets]\ntier = "smal"\n',
        "workloads.tickets.tier",
        "Did you mean small?",
    ),
    ("rules in the wrong form", 'workloads = "small"\n' + SMALLEST, "workloads", "[workloads.NAME]"),
    ("the LLM without a model", SMALLEST + '[router]\nstages = ["gate", "llm"]\n', "router.stages", "[router.llm]"),
    (
        "a router's model that is none",
        SMALLEST + '[router.llm]\nmodel = "ine"\n',
        "router.llm.model",
        "Did you mean one?",
    ),
    (
        "a provider that is none",
        replaced('provider = "home"', 'provider = "hme"'),
        "models.one.provider",
        "Did you mean home?",
    ),
    (
        "a tier that is none",
        SMALLEST + '[models.two]\nprovider = "home"\ntier = "huge"\nprice = "look up"\n'
        'context_tokens = 1\nmax_output_tokens = 1\nmodel = "gpt-4.1"\n',
        "models.two.tier",
        "Use one of: small.",
    ),
    ("a tier without a model", SMALLEST + "[tiers.big]\nconcurrency = 1\n", "tiers.big", "has no model"),
    (
        "an unknown next rung",
        replaced("concurrency = 4", 'concurrency = 4\nescalates_to = "big"'),
        "tiers.small.escalates_to",
        "is not a tier of this fleet",
    ),
    (
        "a rung that leads to itself",
        replaced("concurrency = 4", 'concurrency = 4\nescalates_to = "small"'),
        "tiers.small.escalates_to",
        "small → small",
    ),
    ("a name of our own", SMALLEST.replace("small", "fallback"), "tiers.fallback", "reserved by Pointsman"),
    (
        "a name with odd signs",
        SMALLEST.replace("tiers.small", 'tiers."Sm all"').replace('"small"', '"Sm all"'),
        'tiers."Sm all"',
        "lowercase letters",
    ),
    (
        "a reserved queue",
        replaced("concurrency = 4", 'concurrency = 4\nqueue = "route"'),
        "tiers.small.queue",
        "Remove it",
    ),
    ("a model named like a tier", SMALLEST.replace("models.one", "models.small"), "models.small", "Rename it"),
    ("more output than context", replaced("8192", "100"), "models.one.max_output_tokens", "context_tokens"),
    (
        "a price without output",
        replaced(", output_usd_per_mtok = 2.5", ""),
        "models.one.price.output_usd_per_mtok",
        "is missing",
    ),
    (
        "a negative price",
        replaced("= 2.5", "= -1"),
        "models.one.price.output_usd_per_mtok",
        "greater than or equal to 0",
    ),
    (
        "a price in words",
        replaced("{ input_usd_per_mtok = 1, output_usd_per_mtok = 2.5 }", '"cheap"'),
        "models.one.price",
        '"look up"',
    ),
    (
        "a misspelt price",
        replaced("input_usd_per_mtok", "input_usd"),
        "models.one.price.input_usd",
        "Did you mean input_usd_per_mtok?",
    ),
    (
        "a price that nobody knows",
        replaced("{ input_usd_per_mtok = 1, output_usd_per_mtok = 2.5 }", '"look up"'),
        "models.one.price",
        "State it: price = {",
    ),
    *(
        (
            f"an embedding tier with {given}",
            EMBEDDINGS.replace('"embeddings"\n', f'"embeddings"\n{given}\n', 1),
            key,
            fix,
        )
        for given, key, fix in (
            ('escalates_to = "small"', "tiers.vectors.escalates_to", "Remove it"),
            ("confidence_threshold = 0.5", "tiers.vectors.confidence_threshold", "Remove it"),
            ("hedge_after_p95 = true", "tiers.vectors.hedge_after_p95", "Remove it"),
        )
    ),
    *(
        (
            f"an embedding model with {given}",
            f"{EMBEDDINGS}{given}\n",
            f"models.embed.{given.split(' ')[0]}",
            "Remove it",
        )
        for given in ("logprobs = true", "max_output_tokens = 9", 'lanes = ["standard"]', 'reasoning_effort = "low"')
    ),
    (
        "an embedding tier of two models",
        EMBEDDINGS + SECOND_EMBEDDING.replace('model = "embed"', 'model = "other"'),
        "models.second.model",
        "Embeddings of two models cannot be compared",
    ),
    (
        "an embedding model that speaks another protocol",
        EMBEDDINGS.replace(
            "[providers.home]", '[providers.g]\nkind = "google"\nbase_url = "https://g.test"\n[providers.home]'
        )
        + SECOND_EMBEDDING.replace('provider = "home"', 'provider = "g"'),
        "models.second.provider",
        'kind = "openai"',
    ),
    (
        "two embedding tiers",
        EMBEDDINGS
        + SECOND_EMBEDDING.replace('"vectors"', '"more"')
        + '[tiers.more]\nendpoint = "embeddings"\nconcurrency = 1\n',
        "tiers.more.endpoint",
        "Keep one",
    ),
    (
        "a model both for chat and for embeddings",
        EMBEDDINGS + SECOND_EMBEDDING.replace('"vectors"', '"small"').replace("512", "8192"),
        "models.second.tier",
        "Remove one of the two",
    ),
    (
        "no tier for chat",
        SMALLEST.replace("concurrency = 4", 'concurrency = 4\nendpoint = "embeddings"'),
        "tiers",
        "Add one",
    ),
    *(
        (f"a chat model that is one for embeddings: {key}", text, key, "Name a tier or model for chat completions")
        for text, key in (
            (EMBEDDINGS + '[quality]\njudge = "vectors"\n', "quality.judge"),
            (EMBEDDINGS + '[workloads.w]\ntier = "vectors"\n', "workloads.w.tier"),
            (EMBEDDINGS + '[router]\nllm = { model = "embed" }\n', "router.llm.model"),
            (EMBEDDINGS.replace('"tiny"', '"tiny"\nbaseline = "embed"'), "fleet.baseline"),
            (
                EMBEDDINGS.replace("concurrency = 4", 'concurrency = 4\nescalates_to = "vectors"'),
                "tiers.small.escalates_to",
            ),
            (
                EMBEDDINGS.replace("concurrency = 4", 'concurrency = 4\nconfidence = { verifier = "embed" }'),
                "tiers.small.confidence.verifier",
            ),
        )
    ),
    ("a lease that ends too soon", SMALLEST + "[timing]\nlease_s = 120\n", "timing.lease_s", "Set it to 180 or more"),
    (
        "a wait that is too long",
        SMALLEST + "[timing]\nbackoff_s = 61\n",
        "timing.backoff_s",
        "less than or equal to 60",
    ),
    (
        "an address without a scheme",
        replaced("http://127.0.0.1:11434/v1/", "127.0.0.1:11434"),
        "providers.home.base_url",
        "Use https://",
    ),
    (
        "an address of another scheme",
        replaced("http://127.0.0.1:11434/v1/", "ftp://h/v1"),
        "providers.home.base_url",
        "Use https://",
    ),
    ("an address with a bad port", replaced("11434", "99999"), "providers.home.base_url", "is not a valid address"),
    ("an address with credentials", replaced("127.0.0.1", "me:hunter2@h"), "providers.home.base_url", "api_key_env"),
    ("an address with a query", replaced("/v1/", "/v1?key=hunter2"), "providers.home.base_url", "query ="),
    (
        "a simulator that is not called so",
        replaced("http://127.0.0.1:11434/v1/", "simulator:/openai/v1"),
        "providers.home.base_url",
        "Set simulated = true",
    ),
    (
        "a simulator without a path",
        replaced("http://127.0.0.1:11434/v1/", "simulator:openai").replace(
            'name = "tiny"', 'name = "tiny"\nsimulated = true'
        ),
        "providers.home.base_url",
        "simulator:/openai/v1",
    ),
    (
        "a real provider that is called simulated",
        replaced("http://127.0.0.1:11434/v1/", "https://api.openai.com/v1").replace(
            'name = "tiny"', 'name = "tiny"\nsimulated = true'
        ),
        "providers.home.base_url",
        "Set simulated = false",
    ),
    (
        "a variable's name with odd signs",
        replaced('kind = "openai"', 'kind = "openai"\napi_key_env = "$KEY"'),
        "providers.home.api_key_env",
        "letters, digits",
    ),
    (
        "an unknown failure",
        replaced('kind = "openai"', 'kind = "openai"\nfailover_on = ["mood"]'),
        "providers.home.failover_on.0",
        "'auth'",
    ),
    ("an unknown pool", SMALLEST + '[workers]\npool = "gevent"\n', "workers.pool", "'threads' or 'solo'"),
]


@pytest.mark.parametrize(("text", "key", "words"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_answered_with_its_key_and_the_fix(text: str, key: str, words: str, write: Any) -> None:
    found = problems(write(text))
    assert list(found) == [key]
    assert words in found[key]
    assert "hunter2" not in found[key]


KEYS = [
    "sk-proj-abcdefghijklmnop",
    "sk-ant-api03-abcdefgh",
    "AIzaSyA1234567890abcdefghijklmnopq",
    "gsk_abcdefgh12345678",
]


@pytest.mark.parametrize("secret", KEYS)
@pytest.mark.parametrize(
    "line",
    [
        'api_key_env = "{}"',
        'headers = {{ authorization = "Bearer {}" }}',
        'headers = {{ api-key = "{}" }}',
        'query = {{ key = "{}" }}',
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(line: str, secret: str, write: Any) -> None:
    path = write(replaced('kind = "openai"', 'kind = "openai"\n' + line.format(secret)))
    found = problems(path)
    assert len(found) == 1
    assert "must not be stored in the file" in next(iter(found.values()))
    assert secret not in str(found)


@pytest.mark.parametrize("place", ['kind = "{}"', 'api_key = "{}"', 'deadline_s = "{}"', '"{}" = 1'])
def test_a_key_in_a_wrong_place_is_not_repeated_either(place: str, write: Any) -> None:
    line = place.format(KEYS[0])
    text = SMALLEST.replace('kind = "openai"', line if line.startswith("kind") else f'kind = "openai"\n{line}')
    with pytest.raises(FleetError) as caught:
        load_fleet(write(text), {})
    assert KEYS[0] not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'api_key_env = "ACME_PRODUCTION_EUROPE_WEST_1_OPENAI_API_KEY"',
        'headers = { "HTTP-Referer" = "https://acme.example.org/our-internal-applications/pointsman" }',
        'query = { "api-version" = "2024-10-21", deployment = "acme-gpt-4.1-mini-europe-west-data-zone" }',
    ],
)
def test_a_long_name_is_not_taken_for_a_key(line: str, write: Any) -> None:
    load_fleet(write(replaced('kind = "openai"', 'kind = "openai"\n' + line)), {})


def test_every_problem_is_reported_at_once(write: Any) -> None:
    text = (
        SMALLEST.replace("concurrency = 4", "concurrency = 0")
        .replace('"home"', '"hme"')
        .replace('kind = "openai"', 'kind = "openai"\ndeadline = 3')
    )
    assert set(problems(write(text + "[extra]\n[timing]\nlease_s = 0\n"))) == {
        "tiers.small.concurrency",
        "models.one.provider",
        "providers.home.deadline",
        "extra",
        "timing.lease_s",
    }


def test_one_mistake_does_not_bring_others_in_its_wake(write: Any) -> None:
    # The tier and the provider are not sound, but they are there: nothing that refers to them is wrong.
    text = SMALLEST.replace("concurrency = 4", "").replace('kind = "openai"', 'kind = "x"')
    assert set(problems(write(text))) == {"tiers.small.concurrency", "providers.home.kind"}


def test_a_cycle_of_tiers_is_reported_once(write: Any) -> None:
    text = replaced("concurrency = 4", 'concurrency = 4\nescalates_to = "big"')
    text += '[tiers.big]\nconcurrency = 1\nescalates_to = "small"\n'
    text += SMALLEST.partition("[models.one]")[2].join(["[models.two]", ""]).replace('"small"', '"big"')
    assert problems(write(text)) == {
        "tiers.small.escalates_to": "causes a cycle: small → big → small. Remove escalates_to from the largest tier."
    }


def test_a_queue_is_one_tiers(write: Any) -> None:
    text = replaced("concurrency = 4", 'concurrency = 4\n[tiers.big]\nconcurrency = 1\nqueue = "small"')
    text += SMALLEST.partition("[models.one]")[2].join(["[models.two]", ""]).replace('"small"', '"big"')
    assert list(problems(write(text))) == ["tiers.big.queue"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "models: is missing"),
        (b"[fleet\n", "line 1"),
        (b'[fleet]\nname = "a"\nname = "b"\n', "Correct the syntax"),
        (b'[fleet]\nname = "\xff"\n', "is not UTF-8"),
        (b"fleet = 1\nproviders = 2\nmodels = []\ntiers = 'x'\n", "tiers: is not a table of tables"),
        (b"a" * 10 + b" = " + b"[" * 5000, "TOML"),
    ],
)
def test_a_file_that_is_no_fleet_at_all_says_so(content: bytes, words: str, write: Any) -> None:
    with pytest.raises(FleetError, match=words):
        load_fleet(write(content), {})


def test_a_file_that_is_not_there_says_how_to_name_another(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == {
        "file": "cannot be read: No such file or directory. Set the path with --fleet FILE or POINTSMAN_FLEET."
    }


# What is only doubtful


def warned(path: Path, environ: dict[str, str]) -> dict[str, str]:
    return {problem.key: problem.wrong for problem in check_fleet(path, environ).warnings}


def test_an_unset_key_is_a_warning_for_workers_may_have_it(write: Any) -> None:
    path = write(replaced('kind = "openai"', 'kind = "openai"\napi_key_env = "HOME_KEY"'))
    assert list(warned(path, {})) == ["providers.home.api_key_env"]
    assert warned(path, {"HOME_KEY": "x"}) == {}


def test_a_judge_at_the_price_of_the_top_tier_is_a_warning(write: Any) -> None:
    large = '[tiers.large]\nconcurrency = 4\n[models.two]\nprovider = "home"\ntier = "large"\ncontext_tokens = 8192\n'
    large += "price = { input_usd_per_mtok = 10, output_usd_per_mtok = 25 }\n"
    text = SMALLEST.replace("[tiers.small]", '[tiers.small]\nescalates_to = "large"') + large
    assert "two costs 100% of the top tier" in warned(write(text + '[quality]\njudge = "large"\n'), {})["quality.judge"]
    assert "quality.judge" not in warned(write(text + '[quality]\njudge = "small"\n'), {})


def test_a_key_that_would_go_unencrypted_is_a_warning(write: Any) -> None:
    text = replaced('kind = "openai"', 'kind = "openai"\napi_key_env = "K"').replace("127.0.0.1", "gpu.example.org")
    assert list(warned(write(text), {"K": "x"})) == ["providers.home.base_url"]


def test_a_provider_without_a_model_is_a_warning(write: Any) -> None:
    text = SMALLEST + '[providers.spare]\nkind = "openai"\nbase_url = "http://127.0.0.1/v1"\n'
    assert list(warned(write(text), {})) == ["providers.spare"]


def test_a_ladder_that_gets_cheaper_is_a_warning(write: Any) -> None:
    text = replaced("concurrency = 4", 'concurrency = 4\nescalates_to = "big"\n[tiers.big]\nconcurrency = 1')
    two = "[models.two]" + SMALLEST.partition("[models.one]")[2].replace('"small"', '"big"')
    text = text.replace("context_tokens", "logprobs = true\ncontext_tokens")
    assert list(warned(write(text + two.replace("= 2.5", "= 0.5")), {})) == ["tiers.big"]
    assert warned(write(text + two.replace("= 2.5", "= 9")), {}) == {}


def test_the_smallest_fleet_is_toml_as_it_stands() -> None:
    assert tomllib.loads(SMALLEST)["fleet"] == {"name": "tiny"}


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("x-region", "größer", "is not a valid header value"),
        ("x-region", "a\\r\\nx-admin: 1", "is not a valid header value"),
        *((name, "5", "Remove it") for name in ("Content-Length", "transfer-encoding", "Host")),
        *((name, "5", "is not a valid header name") for name in ("x-a: 1, x-b", "x a", "", "x\\r\\ny")),
    ],
)
def test_an_invalid_or_reserved_header_is_rejected(header: str, value: str, words: str, write: Any) -> None:
    line = f'headers = {{ "{header}" = "{value}" }}'
    ((key, told),) = problems(write(replaced('kind = "openai"', 'kind = "openai"\n' + line))).items()
    assert key.startswith("providers.home.headers.")
    assert words in told
    assert value not in told
    assert key.isprintable()


# How a provider is reached


def reached(**keys: str) -> str:
    """`SMALLEST`, with more keys of its provider, as TOML writes them."""
    more = "".join(f"{name} = {value}\n" for name, value in keys.items())
    return SMALLEST.replace("[tiers.small]", f"{more}\n[tiers.small]")


def test_a_provider_says_by_which_way_it_is_reached(write: Any) -> None:
    keys = {
        "proxy": '"http://proxy:3128"',
        "proxy_login_env": '"LOGIN"',
        "ca_bundle": '"/etc/ca.pem"',
        "client_certificate": '"/etc/us.pem"',
        "client_key": '"/etc/us.key"',
        "http2": '"auto"',
        "connect_timeout_s": "3",
    }
    provider = load_fleet(write(reached(**keys)), {}).providers["home"]
    assert (provider.proxy, provider.proxy_login_env) == ("http://proxy:3128", "LOGIN")
    assert (provider.ca_bundle, provider.client_certificate) == ("/etc/ca.pem", "/etc/us.pem")
    assert (provider.client_key, provider.http2) == ("/etc/us.key", "auto")
    assert provider.connect_timeout_s == 3.0
    assert load_fleet(write(reached(max_connections="8")), {}).providers["home"].max_connections == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proxy", '"http://user:password@proxy:3128"'),
        ("proxy", '"socks5://proxy:1080"'),
        ("proxy", '"proxy:3128"'),
        ("proxy", '"http://proxy:3128/path"'),
        ("proxy", '"http://proxy:port"'),
        ("proxy", '"environment"'),
        ("proxy_login_env", '"LOGIN"'),
        ("ca_bundle", '"ca.pem"'),
        ("client_certificate", '"./us.pem"'),
        ("client_key", '"/etc/us.key"'),
        ("http2", '"yes"'),
        ("http2", "1"),
        ("connect_timeout_s", "0"),
        ("max_connections", "0"),
        ("max_connections", "true"),
    ],
)
def test_a_way_that_cannot_be_gone_is_refused(write: Any, name: str, value: str) -> None:
    found = problems(write(reached(**{name: value})))
    assert set(found) == {f"providers.home.{name}"}
    assert "password@" not in found[f"providers.home.{name}"]


def test_connections_are_limited_by_http1_only(write: Any) -> None:
    assert set(problems(write(reached(max_connections="8", http2='"auto"')))) == {"providers.home.max_connections"}


def test_certificates_and_logins_that_are_not_here_are_warnings(write: Any, tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    none.write_text("not a certificate")
    text = reached(
        proxy='"http://proxy:3128"',
        proxy_login_env='"LOGIN"',
        ca_bundle=f'"{none}"',
        client_certificate=f'"{tmp_path}/absent.pem"',
    )
    found = warned(write(text), {"LOGIN": "no colon"})
    assert set(found) == {f"providers.home.{name}" for name in ("proxy_login_env", "ca_bundle", "client_certificate")}
    assert "it is not PEM" in found["providers.home.ca_bundle"]
    assert "no such file" in found["providers.home.client_certificate"]


# Efforts


def test_one_model_serves_two_tiers_at_two_efforts(write: Any) -> None:
    one = SMALLEST.partition("[models.one]")[2]
    second = "[tiers.large]\nconcurrency = 4\n[models.two]" + one.replace('"small"', '"large"')
    content = f'{SMALLEST}model = "m"\nreasoning_effort = "low"\n{second}model = "m"\nreasoning_effort = "high"\n'
    fleet = load_fleet(write(content), {})
    assert {model.tier: model.reasoning_effort for model in fleet.models.values()} == {"small": "low", "large": "high"}
    assert fleet.models["one"].usual_reasoning_tokens < fleet.models["two"].usual_reasoning_tokens
    assert [model.name for model in fleet.pinned("m", "small")] == ["one"]
    assert [model.name for model in fleet.pinned("two", "large")] == ["two"]
    assert not fleet.pinned("two", "small")


def test_an_unknown_effort_is_named(write: Any) -> None:
    found = problems(write(SMALLEST + 'reasoning_effort = "very high"\n'))
    assert list(found) == ["models.one.reasoning_effort"]
    assert "'xhigh'" in found["models.one.reasoning_effort"]
