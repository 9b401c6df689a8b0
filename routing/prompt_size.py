"""The token count of a chat body. Reservations, context checks, token limits and forecasts all use it.

Three figures of the same body:

* the **bound**: no provider bills more prompt tokens than this. A tokenizer that works on bytes (as all in use do)
gives at most one token per UTF-8 byte, in any script. Tools and schemas are rendered as JSON, which may be indented or
escaped on its way. Pictures and sound count at the maximum that the providers' pages state. Parts without a stated
figure (a PDF, a video, a stored file) take at most the model's context. * the **careful** figure: the tokens that a
usual tokenizer would give, by kinds of characters. It decides whether a body fits into a context. The provider refuses
denser text without billing it, and the query goes to the next tier. * the **expected** figure, for forecasts and
limits, which a ratio learned per deployment corrects.

Sources: OpenAI's guides on pictures, sound and predicted outputs; Anthropic's on vision, PDF and tool use; Google's
on tokens and media resolution; Qwen2-VL's default ``max_pixels`` for open models. Characters per token were measured
with o200k_base, cl100k_base and the tokenizers of Llama and Qwen.
"""

import base64
import binascii
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never

from routing.embedding_input import EmbeddingInput, inputs_of
from routing.fleet import Model, Protocol
from routing.unicode_normalization import PIECE_CHARS, normalize

CALL_TOKENS: Final = 128
"""Tokens that a chat template adds to each call: a date, a preamble, the start of the answer."""

MESSAGE_TOKENS: Final = 16
"""Tokens that it adds to each message: the role and the surrounding markers."""

TOOL_TOKENS: Final = 1024
"""Tokens of a provider's own instructions on tools, or on the shape of the answer, per call: 313 to 804 at
Anthropic."""

ESCAPED: Final = 2
ESCAPED_WIDE: Final = 3
"""Maximum tokens per byte of JSON, which may be indented, or have its wide characters escaped."""

CHARS_PER_TOKEN: Final = 4.0
"""A rule of thumb for English text (OpenAI's help pages give the same figure)."""

_TOKENS_PER_WIDE_BYTE: Final = 0.25
_CAREFUL_WIDE: Final = 0.45
_CAREFUL_DIGIT: Final = 1.0
_CAREFUL_SIGN: Final = 0.85
_CAREFUL_LETTER: Final = 0.25
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ "
_DIGITS: Final = b"0123456789"

_SOUND_TOKENS_PER_S: Final = 32.0
"""Google's figure, which is the highest. OpenAI states one token per 100 ms."""

_LEAST_MP3_BYTES_PER_S: Final = 1000
"""8 kbit/s, the lowest bit rate of MPEG-2 layer III."""

_USUAL_FILE_TOKENS: Final = 3_000
_USUAL_SOUND_TOKENS: Final = 1_000


@dataclass(frozen=True, slots=True)
class PictureRule:
    """Tokens of one picture: the maximum at full detail, the maximum at detail ``low``, and the usual number."""

    most: int
    low: int
    usual: int


_PICTURES: Final[Sequence[tuple[re.Pattern[str], PictureRule]]] = [
    (re.compile(rf"(?:^|[/:.]){name}"), PictureRule(most, low, usual))
    for name, most, low, usual in (
        # By tiles of 512 pixels, of which at most 8 cover 2048 × 768 pixels.
        ("gpt-4o-mini", 2_833 + 8 * 5_667, 2_833, 2_833 + 4 * 5_667),
        ("gpt-4o", 85 + 8 * 170, 85, 765),
        (r"o[13](?:-|$)", 75 + 8 * 150, 75, 675),
        # By patches of 32 pixels, times a factor: 1,536 patches, from gpt-5.4 on up to 10,000.
        ("gpt-4.1-nano", 3_779, 700, 2_520),
        ("gpt-4.1", 2_489, 700, 1_100),
        ("o4-mini", 2_642, 700, 1_760),
        ("gpt-5", 24_600, 700, 1_700),
        ("claude", 5_000, 5_000, 1_600),
        ("gemini", 5_000, 5_000, 1_120),
    )
]
"""Picture rules by the beginning of the model's name. The first match applies."""

_UNKNOWN_PICTURE: Final = PictureRule(2_833 + 8 * 5_667, 2_833 + 8 * 5_667, 1_100)
"""The rule for an unknown model name, which may be any model."""

_ANTHROPIC_PICTURE: Final = PictureRule(5_000, 5_000, 1_600)
"""4,784 from Opus 4.7 on, about 1,600 before."""

_GOOGLE_PICTURE: Final = PictureRule(5_000, 5_000, 1_120)
"""16 tiles of 258, or 2,240 at the highest resolution."""

_OF_A_CUT: Final = 4

_EXACT_CHARS: Final = 16_384
_EXACT_TIMES: Final = 3
"""Ligatures that become eighteen letters take 5 µs each to normalize. Text that grows more than this, and longer text,
is bounded by its parts. Hangul syllables, which compose again, have three times the bytes in parts."""

_TEXT_TYPES: Final = frozenset({"text", "input_text", "refusal", "thinking"})
_PICTURE_TYPES: Final = frozenset({"image_url", "input_image", "image"})
_SOUND_TYPES: Final = frozenset({"input_audio"})

_RENDERED: Final = frozenset(
    {
        "messages", "tools", "functions", "response_format", "tool_choice", "function_call", "guided_json",
        "guided_grammar", "guided_regex", "guided_choice", "documents", "chat_template_kwargs",
    }
)  # fmt: skip

_INSTRUCTED: Final = frozenset({"tools", "functions", "response_format"})
"""Fields that the provider renders into the prompt with text of its own, which costs extra tokens."""

UNBOUNDED: Final[Mapping[str, str]] = {
    "web_search_options": "a search is billed separately, and the pages it finds are billed as prompt tokens",
    "search_parameters": "a search is billed per source",
    "plugins": "a plug-in is billed in addition to the tokens",
    "models": "a model outside the fleet may answer, at its own price",
    "fallbacks": "a model outside the fleet may answer, at its own price",
    "provider": "a provider outside the fleet may answer, at its own price",
    "route": "a model outside the fleet may answer, at its own price",
    "best_of": "several completions are billed for one answer",
    "speed": "a faster mode is billed at a multiple of the price",
    "inference_geo": "a region may be billed at a multiple of the price",
    "enable_search": "a search is billed in addition to the tokens, and the pages it finds are billed as prompt tokens",
    "background": "the call continues after its answer",
    "mcp_servers": "a server's results are billed as prompt tokens, as often as the model requests them",
    "container": "the provider's own tools are billed in addition to the tokens",
}
"""Keys of a body with a cost that cannot be bounded in advance, and the reason."""

_OFF: Final[Sequence[object]] = (None, False, "", [])
"""Values that request nothing. An empty object is not among them, because it requests a search with the provider's
defaults."""

_PRICED_MODALITIES: Final = ("text", "audio")

_OWN_TOOLS: Final = frozenset({"function", "custom"})
"""Tools that the user runs. The provider runs, and bills, all others."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound in the body. ``seconds`` is its maximum length, or None if its format is not known."""

    seconds: float | None


class PromptSize(NamedTuple):
    """The size of one chat body. Tokens hold for any tokenizer that works on bytes."""

    text_bound: int
    """Maximum tokens of everything except pictures, sound and files."""
    careful_text: int
    expected_text: int
    low_pictures: int = 0
    pictures: int = 0
    """The number of pictures without detail ``low``."""
    sounds: tuple[Sound, ...] = ()
    files: int = 0
    """The number of files, videos and earlier sounds. They take at most the context."""
    predicted: int = 0
    """Bytes of a predicted output. Its unused part is billed as completion."""

    def bound(self, model: Model) -> int:
        """Return the maximum prompt tokens that ``model`` can bill."""
        if not self.has_media:
            return self.text_bound
        rule = picture_rule(model)
        seen = self.pictures * rule.most + self.low_pictures * rule.low
        if self.files or any(sound.seconds is None for sound in self.sounds):
            # Beside it: pictures of gpt-4o-mini are billed at 33 times what they take of the context.
            return self.text_bound + seen + model.context_tokens
        return self.text_bound + seen + sum(_heard(sound) for sound in self.sounds)

    def careful(self, model: Model) -> int:
        """Return the prompt tokens that count against ``model``'s context."""
        return self.careful_text + self._usual_media(model) if self.has_media else self.careful_text

    def expected(self, model: Model) -> int:
        """Return the prompt tokens that ``model`` is expected to count, at least 1."""
        return self.expected_text + self._usual_media(model) if self.has_media else self.expected_text

    @property
    def has_media(self) -> bool:
        """Whether it contains anything except text."""
        return bool(self.pictures or self.low_pictures or self.sounds or self.files)

    def _usual_media(self, model: Model) -> int:
        rule = picture_rule(model)
        seen = self.pictures * rule.usual + self.low_pictures * min(rule.low, rule.usual)
        return seen + sum(_heard(sound) for sound in self.sounds) + self.files * _USUAL_FILE_TOKENS


def picture_rule(model: Model) -> PictureRule:
    """Return the token counts of one picture at ``model``: the fleet's own ``picture_tokens`` if set."""
    if model.picture_tokens is not None:
        most = model.picture_tokens
        return PictureRule(most, most, most)
    match model.protocol:
        case Protocol.ANTHROPIC:
            return _ANTHROPIC_PICTURE
        case Protocol.GOOGLE:
            return _GOOGLE_PICTURE
        case Protocol.OPENAI:
            name = model.model.lower()
            return next((rule for pattern, rule in _PICTURES if pattern.search(name)), _UNKNOWN_PICTURE)
        case _:
            assert_never(model.protocol)


def _heard(sound: Sound) -> int:
    if sound.seconds is None:
        return _USUAL_SOUND_TOKENS
    return math.ceil(_SOUND_TOKENS_PER_S * sound.seconds) + 2


def size_of_text(*texts: str) -> PromptSize:
    """Return the size of a body that contains only these messages."""
    measure = _Measure()
    for text in texts:
        measure.message()
        measure.text(text)
    return measure.size()


def size_of_body(body: Mapping[str, Any]) -> PromptSize:
    """Return the size of an OpenAI chat-completions ``body``. For an embeddings body, return the size of its input."""
    messages = body.get("messages")
    if messages is None and "input" in body:
        return _size_of_input(body["input"])
    measure = _Measure()
    for message in messages or ():
        measure.message()
        _add_message(message, measure)
    if len(body) > 1:
        _add_settings(body, measure)
    return measure.size()


def _size_of_input(said: EmbeddingInput) -> PromptSize:
    measure = _Measure()
    tokens = 0
    for each in inputs_of(said):
        measure.message()  # a model adds some tokens of its own to each
        if isinstance(each, str):
            measure.text(each)
        else:
            tokens += len(each)
    size = measure.size()
    return size._replace(
        text_bound=size.text_bound + tokens,
        careful_text=size.careful_text + tokens,
        expected_text=size.expected_text + tokens,
    )


def normalized_bytes(text: str) -> int:
    """Return the UTF-8 bytes of ``text`` in NFKC, 0 if it is unchanged, or an upper bound for a long text.

    A composed character is never longer than its parts, so the parts of all characters are a bound. They are looked up
    once for each different character.
    """
    if unicodedata.is_normalized("NFKC", text):
        return 0
    parts = sum(times * _bytes_of_parts(each) for each, times in Counter(text).items())
    if len(text) > _EXACT_CHARS or parts > _EXACT_TIMES * _bytes(text):
        return parts
    # A letter whose marks are in the next piece may compose otherwise there, and take some bytes more.
    return min(parts, _bytes(normalize("NFKC", text)) + _OF_A_CUT * (len(text) // PIECE_CHARS))


@lru_cache(maxsize=2**16)
def _bytes_of_parts(char: str) -> int:
    return _bytes(unicodedata.normalize("NFKD", char))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def unbounded(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the field of ``body`` with a cost that cannot be bounded in advance, and the reason. None if there is
    none."""
    if not UNBOUNDED.keys().isdisjoint(body):
        for key, why in UNBOUNDED.items():
            if body.get(key) not in _OFF:
                return key, why
    modalities = body.get("modalities") or []
    if any(each not in _PRICED_MODALITIES for each in (modalities if isinstance(modalities, list) else [modalities])):
        return "modalities", "parts other than text and audio have another price"
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, Mapping) and str(tool.get("type", "function")) not in _OWN_TOOLS:
            return f"tools[{index}].type", "the provider runs this tool, and bills it in addition to the tokens"
    return None


class _Measure:
    """Adds up the size of one body."""

    __slots__ = ("ascii_chars", "bound", "careful_extra", "files", "low", "pictures", "predicted", "sounds", "wide")

    def __init__(self) -> None:
        self.bound = CALL_TOKENS
        self.ascii_chars = 0
        self.wide = 0
        """Bytes of non-ASCII characters."""
        self.careful_extra = 0.0
        self.pictures = self.low = self.files = self.predicted = 0
        self.sounds: list[Sound] = []

    def message(self) -> None:
        self.bound += MESSAGE_TOKENS

    def text(self, text: str) -> None:
        """Add text that the template copies."""
        raw = text.encode("utf-8", "surrogatepass")
        wide = 0
        size = len(raw)
        if size != len(text):
            wide = _wide_bytes(raw)
            # Some tokenizers normalize first, and a ligature may become a dozen letters.
            size = max(size, normalized_bytes(text))
        self.bound += size
        self._count(raw, wide)

    def rendered(self, value: object) -> None:
        """Add values that are rendered as JSON: tools, schemas, tool calls."""
        try:
            written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):  # not from a JSON document: nothing that could be sent
            written = str(value)
        raw = written.encode("utf-8", "surrogatepass")
        wide = _wide_bytes(raw) if len(raw) != len(written) else 0
        self.bound += ESCAPED * (len(raw) - wide) + ESCAPED_WIDE * wide
        self._count(raw, wide)

    def picture(self, *, is_low: bool) -> None:
        if is_low:
            self.low += 1
        else:
            self.pictures += 1

    def _count(self, raw: bytes, wide: int) -> None:
        narrow = len(raw) - wide
        self.ascii_chars += narrow
        self.wide += wide
        digits = len(raw) - len(raw.translate(None, _DIGITS))
        signs = len(raw.translate(None, _LETTERS + _DIGITS)) - wide
        self.careful_extra += digits * (_CAREFUL_DIGIT - _CAREFUL_LETTER) + signs * (_CAREFUL_SIGN - _CAREFUL_LETTER)

    def size(self) -> PromptSize:
        careful = self.ascii_chars * _CAREFUL_LETTER + self.careful_extra + self.wide * _CAREFUL_WIDE
        expected = self.ascii_chars / CHARS_PER_TOKEN + self.wide * _TOKENS_PER_WIDE_BYTE
        return PromptSize(
            text_bound=self.bound,
            careful_text=max(1, round(careful)),
            expected_text=max(1, round(expected)),
            low_pictures=self.low,
            pictures=self.pictures,
            sounds=tuple(self.sounds),
            files=self.files,
            predicted=self.predicted,
        )


def _wide_bytes(raw: bytes) -> int:
    return len(raw.translate(None, _ASCII))


_ASCII: Final = bytes(range(128))


def _add_message(message: object, measure: _Measure) -> None:
    if not isinstance(message, Mapping):
        measure.rendered(message)
        return
    for key, value in message.items():
        if value is None or key == "role":
            continue
        if isinstance(value, str):
            measure.text(value)
        elif key == "content" and isinstance(value, Sequence):
            for part in value:
                _add_part(part, measure)
        elif key == "audio":
            measure.files += 1
        else:
            measure.rendered(value)


def _add_part(part: object, measure: _Measure) -> None:
    if not isinstance(part, Mapping):
        measure.rendered(part)
        return
    kind = part.get("type")
    if kind in _TEXT_TYPES:
        measure.text(str(part.get("text") or part.get(str(kind)) or ""))
    elif kind in _PICTURE_TYPES:
        measure.picture(is_low=_detail(part) == "low")
    elif kind in _SOUND_TYPES:
        measure.sounds.append(_sound(part.get("input_audio")))
    elif isinstance(kind, str) and "text" in part and len(part) == 2:
        measure.text(str(part["text"]))
    else:
        # Files, videos, and whatever comes next: nobody says how many tokens, but never more than the context.
        measure.files += 1


def _detail(part: Mapping[str, Any]) -> object:
    picture = part.get("image_url")
    return picture.get("detail") if isinstance(picture, Mapping) else part.get("detail")


def _add_settings(body: Mapping[str, Any], measure: _Measure) -> None:
    if not _INSTRUCTED.isdisjoint(body):
        measure.bound += TOOL_TOKENS
    for key in _RENDERED.intersection(body):
        if key != "messages" and body[key] is not None:
            measure.rendered(body[key])
    if isinstance(prediction := body.get("prediction"), Mapping):
        content = prediction.get("content")
        texts = [content] if isinstance(content, str) else [json.dumps(content)]
        measure.predicted += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _sound(given: object) -> Sound:
    """Return the maximum length of a sound in seconds: a WAV by its header, an MP3 by the lowest bit rate."""
    data = given.get("data") if isinstance(given, Mapping) else None
    kind = given.get("format") if isinstance(given, Mapping) else None
    if not isinstance(data, str):
        return Sound(None)
    size = 3 * len(data) // 4
    try:
        head = base64.b64decode(data[: 4 * 512], validate=True)
    except (binascii.Error, ValueError):
        return Sound(None)
    if kind == "wav":
        rate = _wav_bytes_per_s(head)
        return Sound(None if rate is None else size / rate)
    if kind == "mp3" and (head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)):
        return Sound(size / _LEAST_MP3_BYTES_PER_S)
    return Sound(None)


_PLAIN_WAVES: Final = frozenset({1, 3, 6, 7})
"""Integers, floats, A-law and mu-law: a sample takes the bits that the header states. With other codecs it may take any
number."""
_EXTENSIBLE_WAVE: Final = 0xFFFE


def _wav_bytes_per_s(head: bytes) -> int | None:
    """Return the bytes per second from the first ``fmt`` chunk: the smallest rate that its figures give."""
    if re.match(rb"RIFF....WAVE", head, re.DOTALL) is None:
        return None

    def figure(start: int, size: int = 2) -> int:
        return int.from_bytes(head[at + start : at + start + size], "little")

    at = 12
    while head[at : at + 4] not in (b"fmt ", b""):
        at += 8 + figure(4, 4)
        at += at % 2  # chunks begin at even places
    codec = figure(32) if figure(8) == _EXTENSIBLE_WAVE else figure(8)
    samples_per_s, bits = figure(12, 4), figure(10) * figure(22)
    rate = min(figure(16, 4), samples_per_s * figure(20), samples_per_s * bits // 8)
    return rate if rate and codec in _PLAIN_WAVES else None
