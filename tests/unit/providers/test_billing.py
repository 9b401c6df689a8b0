"""Which model answered, and whether the provider's own figure agrees."""

import pytest

from providers.billing import answered_by_another, differs, price_as_answered
from routing.fleet import Model, Protocol, Provider
from routing.price import Price

PRICE = Price(2.0, 8.0, 0.5, "t")
OPENAI = Provider("p", Protocol.OPENAI, "https://api.openai.com/v1")


def model(name: str, price: Price = PRICE) -> Model:
    return Model("d", "p", name, "small", price, 8000)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
        ("gpt-4", "gpt-4-0613"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("gemini-2.5-flash", "gemini-2.5-flash-preview-05-20"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("llama3.2", "llama3.2:latest"),
        ("GPT-5-mini", "gpt-5-mini"),
        ("gpt-4o", ""),
    ],
)
def test_a_snapshot_of_a_model_is_the_model(asked: str, answered: str) -> None:
    assert answered_by_another(model(asked), answered, OPENAI) is None


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4.1", "gpt-4o"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o-mini", "gpt-4o"),
        ("gpt-5", "gpt-4"),
        ("o3", "o3-mini"),
    ],
)
def test_another_model_is_another(asked: str, answered: str) -> None:
    assert answered_by_another(model(asked), answered, OPENAI) == answered


def test_a_name_that_is_no_name_is_not_shown() -> None:
    assert answered_by_another(model("gpt-4o"), "the answer is <b>4</b>", OPENAI) == "another model"
    price, note = price_as_answered(model("gpt-4o"), "the answer is <b>4</b>", OPENAI)
    assert price is PRICE
    assert "the answer" not in note


def test_where_names_are_the_users_own_or_all_is_free_nothing_is_concluded() -> None:
    azure = Provider("p", Protocol.OPENAI, "https://ours.openai.azure.com/openai/v1")
    assert answered_by_another(model("my-deployment"), "gpt-4o-2024-08-06", azure) is None
    assert answered_by_another(model("local", Price(0, 0, 0, "t")), "/models/a.gguf", OPENAI) is None


@pytest.mark.parametrize(
    ("computed", "reported", "alert"),
    [
        (1.0, 1.0, False),
        (1.0, 1.009, False),
        (1.0, 1.02, True),
        (1.0, 0.5, True),
        (0.0, 0.0, False),
        (0.0, 1e-9, False),
    ],
)
def test_a_difference_above_one_percent_is_one(computed: float, reported: float, alert: bool) -> None:
    assert differs(computed, reported) == alert
