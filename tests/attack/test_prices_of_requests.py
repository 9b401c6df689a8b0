"""What a request asks for may not cost more than what is reserved for it, nor what no ledger hears of."""

import base64
import struct
from typing import Any

import pytest

from routing.fleet import Fleet, Model
from routing.price import Price
from routing.prompt_size import size_of_body, unbounded
from submission.input_line import RejectedLine
from submission.line_reader import read_objects

MODEL = Model("m", "p", "gpt-4o-audio-preview", "small", Price(2.5, 10.0, 1.25, "test"), 128_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("web_search_options", {}),
        ("search_parameters", {}),
        ("provider", {}),
        ("modalities", ["text", "image"]),
        ("modalities", "image"),
        ("modalities", [{"type": "image"}]),
    ],
)
def test_what_is_billed_beside_the_tokens_is_refused_whatever_its_value(
    shipped_fleet: Fleet, field: str, value: Any
) -> None:
    """OpenAI's own example of a search has an empty object: it asks for one with the defaults."""
    body = {"messages": [{"role": "user", "content": "What is new?"}], field: value}
    asked = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (read,) = read_objects([asked], fleet=shipped_fleet)
    assert isinstance(read, RejectedLine)
    assert (read.field, read.code) == (f"body.{field}", "unbounded_cost")


@pytest.mark.parametrize("value", [None, False, [], ""])
def test_what_asks_for_nothing_costs_nothing(value: Any) -> None:
    assert unbounded({"web_search_options": value, "modalities": value or ["text", "audio"]}) is None


SAMPLES_PER_S = 8_000
SECONDS = 100


def wave(*, codec: int = 1, bytes_per_s: int = 2**32 - 1, frame: int = 65_535, before: bytes = b"") -> str:
    """A hundred seconds of sound, by what decoders look at; its header says much more of a second where it can."""
    sound = bytes(SECONDS * SAMPLES_PER_S)
    head = b"RIFF" + struct.pack("<I", 36 + len(before) + len(sound)) + b"WAVE" + before + b"fmt "
    head += struct.pack("<IHHIIHH", 16, codec, 1, SAMPLES_PER_S, bytes_per_s, frame, 8)
    return base64.b64encode(head + b"data" + struct.pack("<I", len(sound)) + sound).decode()


FORGED = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 255, 2**32 - 1, 2**32 - 1, 65_535, 65_535)
OTHER_CHUNK = b"JUNK" + struct.pack("<I", len(FORGED)) + FORGED


@pytest.mark.parametrize(
    "sound",
    [wave(), wave(bytes_per_s=SAMPLES_PER_S), wave(frame=1), wave(before=OTHER_CHUNK), wave(codec=0x55), wave(codec=2)],
    ids=["both", "frames", "bytes a second", "a header in another chunk", "MP3", "ADPCM"],
)
def test_a_header_makes_no_sound_shorter_than_it_is(sound: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    size = size_of_body({"messages": [{"role": "user", "content": [part]}]})
    assert size.bound(MODEL) >= 32 * SECONDS


def test_a_sound_behind_another_chunk_is_not_taken_for_the_whole_context() -> None:
    honest = wave(bytes_per_s=SAMPLES_PER_S, frame=1, before=b"JUNK" + struct.pack("<I", 3) + b"abc\0")
    part = {"type": "input_audio", "input_audio": {"data": honest, "format": "wav"}}
    assert size_of_body({"messages": [{"role": "user", "content": [part]}]}).bound(MODEL) < 33 * SECONDS + 300
