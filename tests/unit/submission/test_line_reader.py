"""The formats of input, and a corpus of invalid lines."""

import gc
import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.price import Price
from submission.input_line import InputLimits, InputLine, InvalidInput, RejectedLine
from submission.line_reader import read_lines, read_objects


def _model(name: str, tier: str) -> Model:
    price = Price(1.0, 2.0, 0.5, "test")
    return Model(name=name, provider="p", model=f"{name}-wire", tier=tier, price=price, context_tokens=8000)


FLEET = Fleet(
    name="test",
    simulated=True,
    providers={"p": Provider("p", Protocol.OPENAI, "https://p.test")},
    models={"mini": _model("mini", "small"), "maxi": _model("maxi", "large")},
    tiers={
        "small": Tier("small", "small", 4, ("mini",), "large"),
        "large": Tier("large", "large", 4, ("maxi",), None),
    },
)
ASK = [{"role": "user", "content": "What is 2 + 2?"}]


def read(data: bytes | str, limits: InputLimits | None = None) -> list[InputLine | RejectedLine]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_lines(io.BytesIO(raw), fleet=FLEET, limits=limits))


def batch_line(custom_id: object = "a", **changes: object) -> dict[str, object]:
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": {"messages": ASK}}
    return {key: value for key, value in (line | changes).items() if value is not ...}


def body_line(**body: object) -> str:
    return json.dumps(batch_line(body={"messages": ASK} | body))


def only_rejection(data: bytes | str) -> RejectedLine:
    (got,) = read(data)
    assert isinstance(got, RejectedLine)
    return got


# --- valid input ---


def response_line(custom_id: str, **body: object) -> dict[str, object]:
    return batch_line(custom_id, url="/v1/responses", body={"input": "What is 2 + 2?"} | body)


def test_the_first_line_decides_which_endpoint_a_file_is_for() -> None:
    lines = [response_line("a"), response_line("b", model="small"), batch_line("c"), {"query": "Hi", "id": "d"}]
    first, second, other, simple = read("\n".join(map(json.dumps, lines)))
    assert isinstance(first, InputLine)
    assert json.loads(first.body)["messages"] == ASK
    assert json.loads(first.options or b"") == {"endpoint": "/v1/responses"}
    assert isinstance(second, InputLine)
    assert json.loads(second.options or b"") == {"endpoint": "/v1/responses", "pin": "small"}
    assert isinstance(other, RejectedLine)
    assert (other.field, "/v1/responses" in other.message) == ("url", True)
    assert isinstance(simple, InputLine)
    _, later = read("\n".join(map(json.dumps, [batch_line("a"), response_line("b")])))
    assert isinstance(later, RejectedLine)
    _, later = read("\n".join(map(json.dumps, [{"query": "Hi"}, response_line("b")])))
    assert isinstance(later, RejectedLine)


def test_errors_name_the_fields_of_the_endpoint() -> None:
    def field(**body: object) -> str:
        return only_rejection(json.dumps(response_line("a", **body))).field

    assert field(max_output_tokens=0) == "body.max_output_tokens"
    assert field(text={"format": {"type": "json_schema", "schema": {"type": 1}}}) == "body.text.format.schema"
    assert field(n=2) == "body.n"
    assert field(store=True) == "body.store"
    assert (field(messages=ASK), field(max_tokens=5)) == ("body.messages", "body.max_tokens")
    # The place among the messages is another: the instructions are one, too.
    assert field(instructions="Be brief.", input=[{"role": "user", "content": ""}]) == "body.input"


def test_an_openai_batch_line_keeps_its_body_as_it_is() -> None:
    body = {"model": "auto", "messages": ASK, "max_tokens": 5, "logit_bias": {"50256": -100}}
    (line,) = read(json.dumps(batch_line("q-1", body=body)))
    assert isinstance(line, InputLine)
    assert (line.line_no, line.custom_id, line.options) == (1, "q-1", None)
    assert json.loads(line.body) == body
    assert b'": ' not in line.body


def test_a_simple_line_becomes_a_chat_body_with_its_options() -> None:
    (line,) = read(
        json.dumps(
            {
                "query": "Yes or no: is 7 prime?",
                "id": 17,
                "tier": "small",
                "metadata": {"team": "maths"},
                "expects": {"choices": ["yes", "no"]},
                "max_cost_usd": 0.01,
                "domain": "a key of the user's own",
            }
        )
    )
    assert isinstance(line, InputLine)
    assert line.custom_id == "17"
    assert json.loads(line.body) == {
        "model": "auto",
        "messages": [{"role": "user", "content": "Yes or no: is 7 prime?"}],
    }
    assert line.options is not None
    assert json.loads(line.options) == {
        "pin": "small",
        "expects": {"choices": ["yes", "no"]},
        "metadata": {"team": "maths"},
        "max_cost_usd": 0.01,
    }


def test_plain_text_is_a_query_per_line_named_after_its_line() -> None:
    lines = read("What is 2 + 2?\r\n\r\n  Grüße aus Köln  \n\n")
    assert [(line.line_no, line.custom_id) for line in lines] == [(1, "line-1"), (3, "line-3")]
    assert json.loads(lines[1].body)["messages"][0]["content"] == "Grüße aus Köln"  # type: ignore[union-attr]


def test_the_two_json_forms_may_be_mixed() -> None:
    lines = read("\n" + json.dumps({"query": "Hi"}) + "\r\n" + json.dumps(batch_line("b")) + "\n\n\n")
    assert [(type(line), line.custom_id) for line in lines] == [(InputLine, "line-2"), (InputLine, "b")]


@pytest.mark.parametrize("pin", ["large", "maxi", "maxi-wire"])
@pytest.mark.parametrize("form", ["body.model", "tier"])
def test_a_tier_a_deployment_or_a_wire_name_pins_the_query(pin: str, form: str) -> None:
    text = body_line(model=pin) if form == "body.model" else json.dumps({"query": "Hi", "tier": pin})
    (line,) = read(text)
    assert isinstance(line, InputLine)
    assert line.options is not None
    assert json.loads(line.options) == {"pin": pin}


@pytest.mark.parametrize("model", ["auto", "", None])
def test_a_body_without_a_model_of_its_own_is_not_pinned(model: str | None) -> None:
    (line,) = read(body_line(model=model))
    assert isinstance(line, InputLine)
    assert line.options is None


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *ASK],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [*ASK, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": "4"}],
        [*ASK, {"role": "assistant", "content": ""}, {"role": "user", "content": "And now?"}],
    ],
)
def test_usual_conversations_are_valid(messages: list[object]) -> None:
    assert isinstance(read(body_line(messages=messages))[0], InputLine)


def test_nulls_stand_for_defaults() -> None:
    assert isinstance(read(body_line(max_tokens=None, stop=None, n=None, stream=None, seed=None))[0], InputLine)


def test_gzip_is_detected_by_its_bytes_also_in_several_members() -> None:
    packed = gzip.compress(b'{"query": "one"}\n', mtime=0) + gzip.compress(b'{"query": "two"}\n', mtime=0) + b"\0" * 8
    assert [line.custom_id for line in read(packed)] == ["line-1", "line-2"]


def test_a_byte_order_mark_is_skipped() -> None:
    for form in (b'\xef\xbb\xbf{"query": "Hi"}', gzip.compress(b'\xef\xbb\xbf{"query": "Hi"}', mtime=0)):
        (line,) = read(form)
        assert isinstance(line, InputLine)
        assert json.loads(line.body)["messages"][0]["content"] == "Hi"


def test_a_stream_that_gives_one_byte_at_a_time_reads_the_same() -> None:
    class Drip(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 1))

    two = b'{"query": "Hi"}\n{"query": "Ho"}\n'
    for data in (b"\xef\xbb\xbf" + two.rstrip(), gzip.compress(two, mtime=0)):
        lines = list(read_lines(Drip(data), fleet=FLEET))
        assert [line.custom_id for line in lines] == ["line-1", "line-2"]


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    (line,) = read(r'{"query": "print \\u0000 in C"}')
    assert isinstance(line, InputLine)
    assert json.loads(line.body)["messages"][0]["content"] == r"print \u0000 in C"


def test_parsed_objects_are_read_by_the_same_rules() -> None:
    got = list(read_objects([{"query": "Hi"}, batch_line("b"), {"query": float("nan")}, {1: {2}}], fleet=FLEET))
    assert [type(line) for line in got] == [InputLine, InputLine, RejectedLine, RejectedLine]


# --- invalid lines, each with its field and a fix ---

DEEP = "[" * 70 + "]" * 70
CORPUS: list[tuple[str, str | bytes, str, str]] = [
    ("not UTF-8", b'{"query": "caf\xe9"}', "line", "not UTF-8 at byte 15"),
    ("not UTF-8 in plain text", b"caf\xe9", "line", "not UTF-8 at byte 4"),
    ("broken JSON", '{"query": "Hi",}', "line", "broken"),
    ("cut JSON", '{"query": "Hi"', "line", "broken at character|ends too early"),
    ("two objects on a line", '{"query": "Hi"}{"query": "Ho"}', "line", "broken at character 16"),
    ("NaN", '{"query": "Hi", "max_cost_usd": NaN}', "line", "NaN is not JSON"),
    ("Infinity", '{"query": "Hi", "max_cost_usd": Infinity}', "line", "Infinity is not JSON"),
    ("-Infinity", '{"query": "Grüße", "max_cost_usd": -Infinity}', "line", "-Infinity is not JSON"),
    ("a lone surrogate", r'{"query": "\ud83d"}', "line", "half of a surrogate pair"),
    ("a lone low surrogate", r'{"query": "\ude00"}', "line", "half of a surrogate pair"),
    ("an encoded surrogate", b'{"query": "\xed\xa0\xbd"}', "line", "not UTF-8"),
    ("an escaped NUL", r'{"query": "a\u0000b"}', "line", "NUL"),
    ("an escaped NUL in a key", r'{"query": "a", "metadata": {"\u0000": 1}}', "line", "NUL"),
    ("a raw NUL", b'{"query": "a\x00b"}', "line", "NUL byte at byte 13"),
    ("a NUL in plain text", b"a\x00b", "line", "NUL"),
    ("nested too deep", '{"query": "Hi", "metadata": {"a": ' + DEEP + "}}", "line", "deeper than 64"),
    ("a depth bomb", '{"query": ' + "[" * 100_000, "line", "deeper|broken"),
    ("a closed depth bomb", '{"query": "Hi", "metadata": ' + "[" * 900 + "]" * 900 + "}", "line", "deeper"),
    ("an unstorable number", '{"query": "Hi", "metadata": {"a": 1e999}}', "line", "too large"),
    ("no query", '{"metadata": {}}', "query", "neither query nor body"),
    ("an empty query", '{"query": "  "}', "query", "empty"),
    ("a query of another type", '{"query": ["Hi"]}', "query", "must be text"),
    ("an id of another type", '{"query": "Hi", "id": {}}', "id", "must be text"),
    ("an unknown tier", '{"query": "Hi", "tier": "huge"}', "tier", 'of that name: "huge"'),
    ("a tier of another type", '{"query": "Hi", "tier": 3}', "tier", "must be text"),
    ("a misspelt option", '{"query": "Hi", "max_cost": 1}', "max_cost_usd", 'misspelled in the key "max_cost"'),
    ("two letters swapped", '{"query": "Hi", "teir": "large"}', "tier", "misspelled"),
    ("no cost", '{"query": "Hi", "max_cost_usd": 0}', "max_cost_usd", "above 0"),
    ("a negative cost", '{"query": "Hi", "max_cost_usd": -1}', "max_cost_usd", "above 0"),
    ("a cost in words", '{"query": "Hi", "max_cost_usd": "1"}', "max_cost_usd", "above 0"),
    ("a true cost", '{"query": "Hi", "max_cost_usd": true}', "max_cost_usd", "above 0"),
    ("metadata of another type", '{"query": "Hi", "metadata": "x"}', "metadata", "JSON object"),
    ("too much metadata", json.dumps({"query": "Hi", "metadata": {"a": "b" * 20_000}}), "metadata", "larger"),
    ("expects of another type", '{"query": "Hi", "expects": "yes"}', "expects", "JSON object"),
    ("an unknown expectation", '{"query": "Hi", "expects": {"choice": []}}', "expects.choice", "unknown key"),
    ("no choices", '{"query": "Hi", "expects": {"choices": []}}', "expects.choices", "non-empty"),
    (
        "a broken regex",
        '{"query": "Hi", "expects": {"regex": "("}}',
        "expects.regex",
        "not a valid regular expression for RE2",
    ),
    (
        "a lookaround",
        '{"query": "Hi", "expects": {"regex": "(?=a)b"}}',
        "expects.regex",
        "lookaround",
    ),
    (
        "a schema with a lookaround",
        json.dumps({"query": "Hi", "expects": {"json_schema": {"properties": {"a": {"pattern": "(?!x)y"}}}}}),
        "expects.json_schema",
        "pattern at $.properties.a.pattern",
    ),
    ("a regex too long", json.dumps({"query": "Hi", "expects": {"regex": "a" * 1001}}), "expects.regex", "longer"),
    ("no schema", '{"query": "Hi", "expects": {"json_schema": {"type": 1}}}', "expects.json_schema", "JSON Schema"),
    ("a missing body", json.dumps(batch_line(body=...)), "body", "missing"),
    ("a body of another type", json.dumps(batch_line(body="Hi")), "body", "JSON object"),
    ("no custom_id", json.dumps(batch_line(...)), "custom_id", "missing"),
    ("an empty custom_id", json.dumps(batch_line("")), "custom_id", "empty"),
    ("a custom_id of another type", json.dumps(batch_line(5)), "custom_id", "must be text"),
    ("a custom_id too long", json.dumps(batch_line("x" * 513)), "custom_id", "longer than 512"),
    ("a control character", json.dumps(batch_line("a\nb")), "custom_id", "control character"),
    ("no method", json.dumps(batch_line(method=...)), "method", "POST"),
    ("another method", json.dumps(batch_line(method="GET")), "method", "POST"),
    ("another url", json.dumps(batch_line(url="/v1/images")), "url", "endpoint"),
    ("no messages", json.dumps(batch_line(body={"model": "auto"})), "body.messages", "missing"),
    ("a prompt", json.dumps(batch_line(body={"prompt": "Hi"})), "body.messages", "another endpoint"),
    ("empty messages", body_line(messages=[]), "body.messages", "empty"),
    ("messages of another type", body_line(messages="Hi"), "body.messages", "list"),
    ("a message of another type", body_line(messages=["Hi"]), "body.messages[0]", "JSON object"),
    ("a wrong role", body_line(messages=[{"role": "bot", "content": "Hi"}]), "body.messages[0].role", 'unknown: "bot"'),
    ("a role of another type", body_line(messages=[{"role": []}]), "body.messages[0].role", "unknown"),
    ("no content", body_line(messages=[{"role": "user"}]), "body.messages[0].content", "text or a list"),
    ("empty content", body_line(messages=[{"role": "user", "content": ""}]), "body.messages[0].content", "empty"),
    ("no parts", body_line(messages=[{"role": "user", "content": []}]), "body.messages[0].content", "empty"),
    ("an odd part", body_line(messages=[{"role": "user", "content": ["Hi"]}]), "body.messages[0].content[0]", "type"),
    (
        "a text part without text",
        body_line(messages=[{"role": "user", "content": [{"type": "text"}]}]),
        "body.messages[0].content[0].text",
        "must be text",
    ),
    ("no question", body_line(messages=[{"role": "system", "content": "Hi"}]), "body.messages", "role user"),
    ("an unknown model", body_line(model="gpt-9"), "body.model", "no tier or model"),
    ("a model of another type", body_line(model=4), "body.model", "must be text"),
    ("a stream", body_line(stream=True), "body.stream", "cannot be streamed"),
    ("several answers", body_line(n=2), "body.n", "only one answer"),
    ("n as true", body_line(n=True), "body.n", "only one answer"),
    ("no tokens", body_line(max_tokens=0), "body.max_tokens", "whole number from 1"),
    ("huge tokens", body_line(max_tokens=10**30), "body.max_tokens", "whole number from 1"),
    ("tokens in words", body_line(max_completion_tokens="many"), "body.max_completion_tokens", "whole number"),
    ("a huge seed", body_line(seed=2**63), "body.seed", "whole number"),
    ("too hot", body_line(temperature=2.5), "body.temperature", "from 0 to 2"),
    ("stop of another type", body_line(stop=[1]), "body.stop", "list of texts"),
    ("tools of another type", body_line(tools={}), "body.tools", "list of JSON objects"),
    ("logprobs of another type", body_line(logprobs=1), "body.logprobs", "true or false"),
    ("an odd format", body_line(response_format={"type": "xml"}), "body.response_format", "type must be"),
    (
        "a format without schema",
        body_line(response_format={"type": "json_schema"}),
        "body.response_format.json_schema",
        "needs a schema",
    ),
    (
        "a format with a wrong schema",
        body_line(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "txt"}}}),
        "body.response_format.json_schema.schema",
        "not a usable JSON Schema",
    ),
    (
        "a tier against the model",
        json.dumps(batch_line(tier="small", body={"model": "large", "messages": ASK})),
        "tier",
        "another tier",
    ),
]


@pytest.mark.parametrize(("line", "field", "message"), [row[1:] for row in CORPUS], ids=[row[0] for row in CORPUS])
def test_an_invalid_line_is_rejected_with_its_field_and_a_fix(line: str | bytes, field: str, message: str) -> None:
    good = b'{"query": "first"}\n' if line[:1] in ("{", b"{") else b"first\n"
    raw = line.encode() if isinstance(line, str) else line
    first, bad, last = read(good + raw + b"\n" + good.replace(b"first", b"last"))
    assert isinstance(first, InputLine)
    assert isinstance(last, InputLine)
    assert isinstance(bad, RejectedLine)
    assert (bad.line_no, bad.field) == (2, field)
    assert any(part in bad.message for part in message.split("|")), bad.message
    assert bad.fix
    assert bad.raw == raw[:2048]


def test_a_json_line_that_is_no_object_is_rejected() -> None:
    _, bad = read('{"query": "Hi"}\n"Ho"')
    assert isinstance(bad, RejectedLine)
    assert "not a JSON object" in bad.message


@pytest.mark.parametrize("line", ['{"query": "Ho"}', '{"qery": "Ho"}', '{ "x": 1 }', "{}"])
def test_a_json_line_in_plain_text_is_rejected_instead_of_sent_as_text(line: str) -> None:
    _, bad = read(f"Hi\n{line}")
    assert isinstance(bad, RejectedLine)
    assert "plain text" in bad.message


@pytest.mark.parametrize("line", ["{x} is a set; why?", '{"x": 1} is what I get. Why?', '["a"]', "{"])
def test_plain_text_may_begin_like_json(line: str) -> None:
    _, query = read(f"Hi\n{line}")
    assert isinstance(query, InputLine)


@pytest.mark.parametrize("custom_id", ["a", "line-1", "x" * 500, "ü" * 41])
def test_a_repeated_custom_id_is_rejected_in_every_format(custom_id: str) -> None:
    first = {"query": "Hi"} if custom_id == "line-1" else {"query": "Hi", "id": custom_id}
    _, bad, other = read("\n".join(json.dumps(line) for line in (first, batch_line(custom_id), batch_line("z"))))
    assert isinstance(bad, RejectedLine)
    assert (bad.line_no, bad.field, bad.custom_id) == (2, "custom_id", custom_id)
    assert isinstance(other, InputLine)


def test_a_rejected_line_does_not_use_up_its_custom_id() -> None:
    bad, good = read(json.dumps(batch_line("a", body=...)) + "\n" + json.dumps(batch_line("a")))
    assert (type(bad), type(good)) == (RejectedLine, InputLine)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\n \r\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b'[{"query": "Hi"}]', "JSON array"),
        (b'[\n  {"query": "Hi"}\n]', "JSON array"),
        ('{"query": "Hi"}'.encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest-of-a-zip", "zip"),
        (gzip.compress(b'{"query": "Hi"}', mtime=0)[:-9], "ends too early"),
        (gzip.compress(b'{"query": "Hi"}', mtime=0)[:10] + b"\xff" * 30, "damaged"),
    ],
)
def test_an_input_that_is_bad_as_a_whole_raises(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read(data)
    (rejection,) = caught.value.rejections
    assert rejection.line_no == 0
    assert rejection.fix


def test_a_prompt_never_shows_in_a_message() -> None:
    for _, line, _, _ in CORPUS:
        raw = line.encode() if isinstance(line, str) else line
        for got in read(raw):
            assert "What is" not in str(got) + repr(got) or isinstance(got, InputLine)
    assert "Hi" not in repr(only_rejection('{"query": "Hi", "tier": 3}'))


# --- sizes: rejected in constant memory ---


class Endless(io.RawIOBase):
    """Gives ``total`` bytes of ``piece`` after ``head``, without holding them."""

    def __init__(self, head: bytes, piece: bytes, total: int) -> None:
        self._parts = self._feed(head, piece, total)

    @staticmethod
    def _feed(head: bytes, piece: bytes, total: int) -> Iterator[bytes]:
        yield head
        for _ in range(total // len(piece)):
            yield piece
        yield b'\n{"query": "after"}\n'

    def read(self, size: int = -1) -> bytes:
        return next(self._parts, b"")


def test_a_line_of_ten_megabytes_is_rejected_in_constant_memory() -> None:
    stream = Endless(b'{"query": "first"}\n{"query": "', b"x" * 65536, 10_000_000)
    tracemalloc.start()
    first, bad, after = read_lines(stream, fleet=FLEET)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(first, InputLine)
    assert isinstance(bad, RejectedLine)
    assert (bad.line_no, len(bad.raw)) == (2, 2048)
    assert "longer than 4194304" in bad.message
    assert isinstance(after, InputLine)
    assert after.line_no == 3
    assert peak < 10_000_000


def test_a_line_at_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    limits = InputLimits(max_line_bytes=300_000)
    fits = json.dumps({"query": "x" * (300_000 - 13)})
    assert len(fits) == 300_000
    assert isinstance(read(fits + "\n" + fits, limits)[0], InputLine)
    assert isinstance(read(fits + " ", limits)[0], RejectedLine)
    assert isinstance(read("\n" + fits + " \n", limits)[0], RejectedLine)


def test_a_gzip_bomb_stops_at_the_limit_without_being_held() -> None:
    bomb = gzip.compress(b'{"query": "' + b"0" * 40_000_000, 1, mtime=0)
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="larger than 20000000 bytes"):
        read(bomb, InputLimits(max_bytes=20_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_memory_per_line_is_little() -> None:
    line = json.dumps(batch_line("%07d", body={"messages": [{"role": "user", "content": "x" * 2000}]})).encode()
    stream = io.BytesIO(b"\n".join(line % number for number in range(10_000)))
    tracemalloc.start()
    count = sum(1 for _ in read_lines(stream, fleet=FLEET))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 10_000 * 200 + 2_000_000


@pytest.mark.parametrize("wrong", [{"n": 2}, {"tools": [{"type": "function"}]}])
def test_rejected_lines_are_not_kept(wrong: dict[str, object]) -> None:
    """Nor until the next garbage collection, which is rare in a worker: a file of such lines would fill its memory."""
    messages = [{"role": "user", "content": "x" * 1_000_000}]
    line = json.dumps(batch_line(body={"model": "claude", "messages": messages} | wrong)).encode()
    fleet = replace(
        FLEET,
        providers=FLEET.providers | {"a": Provider("a", Protocol.ANTHROPIC, "https://a.test")},
        models=FLEET.models | {"claude": replace(_model("claude", "large"), provider="a")},
        tiers=FLEET.tiers | {"large": Tier("large", "large", 4, ("maxi", "claude"), None)},
    )
    rejections = read_lines(io.BytesIO(b"\n".join([line] * 21)), fleet=fleet)
    next(rejections)  # imports what it needs
    gc.disable()
    tracemalloc.start()
    rejected = sum(isinstance(got, RejectedLine) for got in rejections)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    assert rejected == 20
    assert kept < 3_000_000


# --- whatever comes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["query", "id", "custom_id", "method", "url", "body", "tier", "metadata", "expects", "max_cost_usd", "tiers"]
BODY = st.dictionaries(st.sampled_from(["messages", "model", "n", "stop", "tools", "response_format", "seed"]), JSON)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON | BODY | st.just("POST")), min_size=1, max_size=4))
def test_no_object_whatever_makes_intake_fail_and_what_it_takes_is_json(objects: list[dict[str, object]]) -> None:
    taken = read("\n".join(json.dumps(each) for each in objects))
    assert len(taken) == len(objects)
    for each in taken:
        if isinstance(each, InputLine):
            assert "messages" in json.loads(each.body)
            assert each.options is None or isinstance(json.loads(each.options), dict)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"{", b'{"query":"', b"\x1f\x8b", b"\xef\xbb\xbf"]))
def test_no_bytes_whatever_make_intake_fail(data: bytes, head: bytes) -> None:
    try:
        taken = read(head + data)
    except InvalidInput as error:
        assert error.rejections  # noqa: PT017 - either outcome is right
    else:
        assert all(isinstance(each, InputLine | RejectedLine) for each in taken)


@pytest.mark.parametrize("key", ["time", "type", "team", "ID", "x"])
def test_a_key_of_the_users_own_passes(key: str) -> None:
    (line,) = read(json.dumps({"query": "Hi", key: "large"}))
    assert isinstance(line, InputLine)
