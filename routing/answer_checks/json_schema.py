"""JSON Schema validation in bounded time.

jsonschema-rs validates (drafts 4 to 2020-12). Its patterns run in Rust's ``regex``, which takes time linear in the
text, and it fetches nothing. ``format`` is only an annotation. The schema bounds the work that a value can cause before
the value is checked: see `Schema.most_steps`.

Findings name keys of the schema and positions in arrays, but never content of the value.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from routing.answer_checks.linear_regex import MAX_PATTERN_CHARS, program_size

if TYPE_CHECKING:
    import jsonschema_rs

MAX_FINDINGS: Final = 5
MAX_SCHEMA_BYTES: Final = 100_000
MAX_SUBSCHEMAS: Final = 2_000
MAX_PATTERNS: Final = 50
MAX_PATTERNS_CHARS: Final = 2_000
"""Maximum characters of all patterns of a schema together."""
MAX_CLASSES: Final = 2_500
"""Maximum cost of translating all patterns of a schema from ECMA 262: n² for a pattern with n classes such as ``\\d``
(12 µs · n²), plus 40 for each ``\\p{…}``."""
MAX_STEPS: Final = 2_000_000
"""Maximum steps for one value. A step is a check of one subschema against one value, a compared entry of an enum, or a
step of a pattern."""
MAX_STEPS_OF_ALL_ERRORS: Final = 2_000
"""Above this number of steps only the first error is reported, because building an error takes up to 0.1 ms."""
MAX_LEVELS: Final = 64
"""Maximum depth of values for which the steps of a recursive schema are counted, unless the counts repeat earlier."""
_TOO_MANY: Final = 10**12
_DIVISION_STEPS: Final = 1_000
"""Steps of one ``multipleOf``. It is exact: it takes up to 30 µs for a usual number, and ten times as long for one with
an exponent."""
_EXPONENT: Final = re.compile(r"\d[eE][+-]?\d")
_LONG_NUMBER: Final = re.compile(r"(?<!\d)\d{300}")

_MAX_PROGRAM_BYTES: Final = 200_000
_LARGEST_PROGRAM: Final = 4_000
"""Approximate maximum number of states that Rust's engine builds within its size limit."""
_REPEATED: Final = re.compile(r"\{(\d{1,6}),?(\d{0,6})\}")
_CLASS: Final = re.compile(r"\\[dDwWsSp]")

_IN_PLACE: Final = ("not", "if", "then", "else")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS: Final = ("dependentSchemas", "dependencies")
MAX_PATHS: Final = 5_000
"""Maximum paths through in-place subschemas below each ``unevaluated…``: the validator compiles it again for every path
(15 µs)."""
_UNEVALUATED: Final = ("unevaluatedItems", "unevaluatedProperties")
_BELOW: Final = (
    *("items", "additionalItems", "additionalProperties", "contains", "propertyNames"),
    *_UNEVALUATED,
)
_REFUSED: Final = ("$dynamicRef", "$recursiveRef")
_BOUNDS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
)


class ValidationResult(NamedTuple):
    """The errors found in a value, and the checks that were skipped."""

    wrong: list[str]
    unchecked: list[str]


class NotJsonError(ValueError):
    """The text is not JSON (NaN and Infinity are not JSON), or it is too deep or too large to read."""


class UnusableSchema(ValueError):
    """The schema cannot be used. The message says why and where, and quotes only keys of the schema."""


def read_json(text: str) -> Any:
    """Return the JSON value in ``text``. Raises `NotJsonError` if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotJsonError from error


def validate_json(text: str, value: Any, schema: Mapping[str, Any]) -> ValidationResult:
    """Check ``value``, which `read_json` read from ``text``, against ``schema``."""
    try:
        return _compiled(_encoded(schema)).validate(text, value)
    except UnusableSchema as why:
        return ValidationResult([], [f"JSON Schema ({why})"])


def find_schema_error(schema: Mapping[str, Any]) -> str | None:
    """Return the error in ``schema``, or None if it is valid."""
    try:
        _compiled(_encoded(schema))
    except UnusableSchema as error:
        return str(error)
    return None


def _encoded(schema: Mapping[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(schema)
    except TypeError:
        raise UnusableSchema("nested too deeply, or has a value that JSON does not have") from None
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise UnusableSchema(f"larger than {MAX_SCHEMA_BYTES} bytes")
    return encoded


@lru_cache(maxsize=32)  # a batch usually has one schema on every line
def _compiled(encoded: bytes) -> "Schema":
    return Schema(orjson.loads(encoded))


class Schema:
    """A compiled schema. Raises `UnusableSchema` if it is invalid, or if its work has no bound."""

    def __init__(self, schema: Any) -> None:
        import jsonschema_rs  # 30 ms, for the processes that see a schema

        graph = _Graph(schema)
        self._keys = graph.keys
        self._steps: list[tuple[int, int]] = []
        """For each depth 0, 1, …: the maximum checks of one value, and the maximum pattern steps for one byte."""
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_MAX_PROGRAM_BYTES, dfa_size_limit=100_000),
                offline=True,
                validate_formats=False,
            )
        except jsonschema_rs.ValidationError as error:
            raise UnusableSchema(_compile_error(error)) from None
        except ValueError:
            raise UnusableSchema("nested too deeply") from None
        checks = 0
        for checks, pattern_steps in graph.steps_by_depth():
            before = self._steps[-1] if self._steps else (0, 0)
            self._steps.append((max(checks, before[0]), max(pattern_steps, before[1])))
        self._knows_all_depths = graph.converged
        self._divides = graph.divides
        self._walks, self._subschemas = graph.walks, graph.subschemas
        if self._walks and (checks or not graph.converged):
            raise UnusableSchema(
                f"{' or '.join(_UNEVALUATED)} next to subschemas such as anyOf, in a schema that refers to itself"
            )

    def most_steps(self, text: str) -> int:
        """Return an upper bound of the steps (see `MAX_STEPS`) that any JSON value in ``text`` takes.

        Each comma and each opening bracket begins at most one value, and a value is at most as deep as there are
        brackets.
        """
        opened = text.count("[") + text.count("{")
        if opened >= len(self._steps) and not self._knows_all_depths:
            return _TOO_MANY
        checks, pattern_steps = self._steps[min(opened, len(self._steps) - 1)] if self._steps else (1, 0)
        values = 1 + opened + text.count(",")
        steps = checks * values + pattern_steps * len(text)
        if self._divides and _EXPONENT.search(text):
            steps *= 10
        # For each child of a value, the validator goes through all subschemas in place, and checks each again.
        repeats: int = (values * self._subschemas) ** self._walks
        return min(steps * repeats, _TOO_MANY)

    def validate(self, text: str, value: Any) -> ValidationResult:
        """Return the errors of ``value``, which was read from ``text``."""
        steps = self.most_steps(text)
        # The time that a number of n digits takes grows as n².
        if steps > MAX_STEPS or _LONG_NUMBER.search(text):
            return ValidationResult([], ["JSON Schema (too much work on an answer of this size)"])
        try:
            if self._validator.is_valid(value):
                return ValidationResult([], [])
            # The validator makes all errors, each with its value and a part of the schema, before it gives the first.
            errors = (
                self._validator.iter_errors(value) if steps <= MAX_STEPS_OF_ALL_ERRORS else self._first_error(value)
            )
            return ValidationResult([self._finding(error) for error in islice(errors, MAX_FINDINGS)], [])
        except ValueError:
            return ValidationResult([], ["JSON Schema (the answer is nested too deeply, or not Unicode)"])

    def _first_error(self, value: Any) -> "Iterator[jsonschema_rs.ValidationError]":
        import jsonschema_rs

        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            yield error

    def _finding(self, error: "jsonschema_rs.ValidationError") -> str:
        path = "$" + "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" if step in self._keys else ".*"
            for step in error.instance_path
        )
        kind: Any = error.kind
        if kind.name == "required":
            return f"{path}.{kind.property}: missing"
        describe = _FINDINGS.get(kind.name)
        return f"{path}: {f'violates {kind.name}' if describe is None else describe(kind)}"


def _branches(kind: Any) -> str:
    kept = sum(not errors for errors in kind.context)
    return f"matches {kept} schemas in {kind.name}, not 1" if kept else f"matches no schema in {kind.name}"


def _too_many(kind: Any) -> str:
    return f"{(n := len(kind.unexpected))} unexpected {'property' if n == 1 else 'properties'}"


_FINDINGS: Final[dict[str, Callable[[Any], str]]] = {
    **dict.fromkeys(_BOUNDS, lambda kind: f"violates {kind.name} {kind.limit}"),
    "multipleOf": lambda kind: f"violates multipleOf {kind.multiple_of}",
    "type": lambda kind: f"has the wrong type; expected {' or '.join(kind.types)}",
    "enum": lambda kind: "is not one of the values in enum",
    "const": lambda kind: "is not the value of const",
    "pattern": lambda kind: "does not match the pattern",
    "additionalProperties": _too_many,
    "unevaluatedProperties": _too_many,
    "uniqueItems": lambda kind: "has duplicate items",
    "anyOf": _branches,
    "oneOf": _branches,
    "not": lambda kind: "matches the schema in `not`",
    "falseSchema": lambda kind: "no value is allowed here",
}
"""What is wrong with a value, by the keyword that it breaks."""


def _compile_error(error: "jsonschema_rs.ValidationError") -> str:
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    kind: Any = error.kind
    if kind.name == "format" and kind.format == "regex":
        return (
            f"the pattern at {path[:200]} cannot be matched in linear time (lookaround and back-references are "
            "not supported)"
        )
    if not error.instance_path:
        return "a $schema that is not draft 4, 6, 7, 2019-09 or 2020-12"
    return f"invalid at {path[:200]}"


class _Graph:
    """The subschemas that apply to a value together with another one (in place), and those that apply to its
    children."""

    def __init__(self, root: Any) -> None:
        self.keys: set[str] = set()
        self._root = root
        self._places: dict[int, int] = {}
        self._schemas: list[Mapping[str, Any]] = []
        self._in_place: list[list[int]] = []
        self._below: list[list[tuple[bool, int]]] = []
        """Pairs of a flag and a subschema. The flag says that it applies to the child of one name or index, not to any
        child."""
        self._own: list[tuple[int, int]] = []
        """Pairs: checks of a value, and pattern steps for a byte."""
        self.converged = True
        self.divides = False
        self._walkers: list[int] = []
        """Subschemas that ask which parts the in-place subschemas evaluated."""
        self._patterns = self._pattern_chars = self._classes = 0
        start = self._add(root)
        done = 0
        while done < len(self._schemas):
            self._read(done)
            done += 1
        self._start = start
        self.subschemas = len(self._schemas)
        self._last_first = self._in_order()
        self.walks = len(self._walkers)
        self._check_paths()

    def _add(self, schema: Any) -> int | None:
        if not isinstance(schema, Mapping):
            return None
        place = self._places.get(id(schema))
        if place is None:
            place = self._places[id(schema)] = len(self._schemas)
            if place >= MAX_SUBSCHEMAS:
                raise UnusableSchema(f"more than {MAX_SUBSCHEMAS} subschemas")
            self._schemas.append(schema)
        return place

    def _read(self, place: int) -> None:
        schema = self._schemas[place]
        in_place: list[Any] = [schema.get(key) for key in _IN_PLACE]
        in_place += [each for key in _IN_PLACE_LISTS for each in _list(schema.get(key))]
        in_place += [each for key in _IN_PLACE_MAPS for each in _map(schema.get(key)).values()]
        below: list[tuple[bool, Any]] = [(False, schema.get(key)) for key in _BELOW]
        patterns = _map(schema.get("patternProperties"))
        below += [(False, each) for each in patterns.values()]
        below += [(True, each) for each in _map(schema.get("properties")).values()]
        below += [(True, each) for key in ("prefixItems", "items") for each in _list(schema.get(key))]
        for key in ("$defs", "definitions"):
            for each in _map(schema.get(key)).values():
                self._add(each)  # it is compiled, wherever it is used
        if "$ref" in schema:
            in_place.append(self._target(schema["$ref"]))
        for key in _REFUSED:
            if key in schema:
                raise UnusableSchema(f"{key} is not supported")
        if place and isinstance(schema.get("$id", schema.get("id")), str):
            raise UnusableSchema("a $id below the root is not supported")
        self.keys.update(_map(schema.get("properties")), _texts(schema.get("required")))
        own = [*patterns, *_texts([schema.get("pattern")])]
        if any(key in schema for key in _UNEVALUATED) and any(isinstance(each, Mapping) for each in in_place):
            self._walkers.append(place)
        self._in_place.append([found for each in in_place if (found := self._add(each)) is not None])
        self._below.append([(is_named, found) for is_named, each in below if (found := self._add(each)) is not None])
        checks = 1 + sum(map(_size, (schema.get("enum"), schema.get("required"), schema.get("const"))))
        if "multipleOf" in schema:
            self.divides = True
            checks += _DIVISION_STEPS
        self._own.append((checks, sum(map(self._steps_of, own))))

    def _steps_of(self, pattern: str) -> int:
        """Return the maximum number of states that a byte is compared with: the characters, each as often as it is
        repeated."""
        classes = _CLASS.findall(pattern)
        properties = classes.count("\\p")
        self._patterns += 1
        self._pattern_chars += len(pattern)
        self._classes += (len(classes) - properties) ** 2 + 40 * properties
        if len(pattern) > MAX_PATTERN_CHARS:
            raise UnusableSchema(f"a pattern longer than {MAX_PATTERN_CHARS} characters")
        if self._patterns > MAX_PATTERNS or self._pattern_chars > MAX_PATTERNS_CHARS or self._classes > MAX_CLASSES:
            raise UnusableSchema(
                f"more than {MAX_PATTERNS} patterns, {MAX_PATTERNS_CHARS} characters of them, or too many classes in "
                "them (use [0-9] for \\d)"
            )
        repeats = _REPEATED.findall(pattern)
        if repeats and not properties and (size := program_size(pattern)):
            return size
        states = max(1, len(pattern))
        for least, most in repeats:
            states = min(states * max(1, int(most or least)), _LARGEST_PROGRAM)
        return states

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise UnusableSchema("a $ref that does not begin with #/ is not supported")
        if "%" in reference:  # the validator decodes it, and would follow it elsewhere
            raise UnusableSchema("a $ref with % is not supported")
        target = self._root
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            elif isinstance(target, Mapping) and key in target:
                target = target[key]
            else:
                raise UnusableSchema("a $ref to a place that it does not have")
        return target

    def _in_order(self) -> list[int]:
        """Return all subschemas, each after those that it applies in place (Kahn 1962)."""
        incoming = Counter(target for targets in self._in_place for target in targets)
        free = [place for place in range(len(self._schemas)) if not incoming[place]]
        order = []
        while free:
            place = free.pop()
            order.append(place)
            for target in self._in_place[place]:
                incoming[target] -= 1
                if not incoming[target]:
                    free.append(target)
        if len(order) < len(self._schemas):
            raise UnusableSchema("a $ref that leads back to itself without a step into the value")
        return order[::-1]

    def _check_paths(self) -> None:
        paths = [1] * len(self._schemas)
        for place in self._last_first:
            paths[place] = min(1 + sum(paths[target] for target in self._in_place[place]), _TOO_MANY)
        if sum(paths[place] for place in self._walkers) > MAX_PATHS:
            raise UnusableSchema(f"too many subschemas such as anyOf below {' and '.join(_UNEVALUATED)}")

    def steps_by_depth(self) -> Iterator[tuple[int, int]]:
        """Return, for values 0, 1, … levels below the root, the checks of one such value and its pattern steps for one
        byte.

        No value takes more. Let A(s, k) be the work that one application of s causes at one value k levels below. Then
        A(s, 0) = own(s) + Σ A(t, 0) and A(s, k) = Σ A(t, k) + Σ A(u, k-1) + max A(v, k-1), where t are the in-place
        subschemas, u those for any child, and v those for the child of one name, which are different values. The
        sequence ends when all further values repeat earlier ones.
        """
        if self._start is None:
            return
        nothing = [(0, 0)] * len(self._schemas)
        before = nothing
        seen = set()
        for level in range(MAX_LEVELS):
            now = list(self._own if level == 0 else nothing)
            for place in self._last_first:
                checks, patterns = now[place]
                for target in self._in_place[place]:
                    checks, patterns = checks + now[target][0], patterns + now[target][1]
                most_checks = most_patterns = 0
                for is_named, target in self._below[place] if level else ():
                    if is_named:
                        most_checks, most_patterns = (
                            max(most_checks, before[target][0]),
                            max(most_patterns, before[target][1]),
                        )
                    else:
                        checks, patterns = checks + before[target][0], patterns + before[target][1]
                now[place] = min(checks + most_checks, _TOO_MANY), min(patterns + most_patterns, _TOO_MANY)
            state = tuple(now)
            if state in seen:
                return
            yield now[self._start]
            seen.add(state)
            before = now
        self.converged = False


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [each for each in _list(value) if isinstance(each, str)]


def _size(value: Any) -> int:
    """Return how many values ``value`` contains, not counting itself."""
    if isinstance(value, Mapping):
        return len(value) + sum(map(_size, value.values()))
    return len(value) + sum(map(_size, value)) if isinstance(value, list) else 0


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
