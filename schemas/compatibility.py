"""Whether a class of events can read what was written for another: each difference, in words."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from headrace.schemas.event import Event

Schema = Mapping[str, Any]
# Bounds of a value: the new one must not be narrower. The sign says on which side it bounds.
_BOUNDS = {"minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1}
_BOUNDS |= {"maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1}
_KINDS: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_KINDS_ALL = (*_KINDS.values(), "array", "object")


class Difference(NamedTuple):
    """What became of a field, and whether events that were well before become dead letters by it."""

    field: str
    breaks: bool
    told: str


def schema_of(events: type[Event]) -> dict[str, Any]:
    """Return a class of events as JSON Schema, to be kept and compared with later.

    >>> class Payment(Event, topic="payments", key="card"):
    ...     id: str
    ...     at: float
    ...     card: str
    >>> schema_of(Payment)["$defs"]["Payment"]["required"]
    ['id', 'at', 'card']
    """
    return msgspec.json.schema(events)


def compared(old: Schema, new: Schema) -> list[Difference]:
    """Return how the second differs from the first, for who reads with the second what was written for the first.

    >>> class Before(Event, topic="payments", key="card"):
    ...     id: str
    ...     at: float
    ...     card: str
    ...     amount: float
    >>> class After(Event, topic="payments", key="card"):
    ...     id: str
    ...     at: float
    ...     card: str
    ...     amount: int
    ...     country: str
    >>> for one in compared(schema_of(Before), schema_of(After)):
    ...     print(one.field, one.breaks, "-", one.told)
    amount True - was a number and is an integer: an event in which it is another becomes a dead letter
    country True - is new and has no default: every event of a producer that does not send it yet becomes a dead letter
    """
    return list(_objects(_resolved(old, old), _resolved(new, new), old, new, ""))


def _objects(before: Schema, after: Schema, old: Schema, new: Schema, within: str) -> Iterator[Difference]:
    there, here = before.get("properties", {}), after.get("properties", {})
    needed, was_needed = set(after.get("required", ())), set(before.get("required", ()))
    for name in there:
        if name not in here:
            yield Difference(within + name, breaks=False, told="is not read any more; producers may go on sending it")
    for name, value in here.items():
        field = within + name
        if name not in there:
            if name in needed:
                told = (
                    "is new and has no default: every event of a producer that does not send it yet becomes a dead "
                    "letter"
                )
            else:
                told = "is new, and has a default where a producer does not send it"
            yield Difference(field, name in needed, told)
            continue
        if name in needed and name not in was_needed:
            told = "had a default and has none: an event without it becomes a dead letter"
            yield Difference(field, breaks=True, told=told)
        elif name in was_needed and name not in needed:
            yield Difference(field, breaks=False, told="need not be sent any more")
        yield from _values(_resolved(there[name], old), _resolved(value, new), old, new, field)


def _values(before: Schema, after: Schema, old: Schema, new: Schema, field: str) -> Iterator[Difference]:
    was, now = _by_kind(before, old), _by_kind(after, new)
    # Whoever takes a number takes an integer.
    if any(kind not in now and not (kind == "integer" and "number" in now) for kind in was):
        told = f"was {_listed(was)} and is {_listed(now)}: an event in which it is another becomes a dead letter"
        yield Difference(field, breaks=True, told=told)
        return
    if set(was) != set(now):
        yield Difference(field, breaks=False, told=f"was {_listed(was)} and may be {_listed(now)}")
    for kind, there in was.items():
        here = now[kind if kind in now else "number"]
        yield from _narrower(there, here, field)
        if kind == "array" and "items" in here:
            items = _resolved(there.get("items", {}), old), _resolved(here["items"], new)
            yield from _values(*items, old, new, f"{field}[]")
        elif kind == "object" and "properties" in here:
            yield from _objects(there, here, old, new, f"{field}.")


def _narrower(there: Schema, here: Schema, field: str) -> Iterator[Difference]:
    """Yield what a value of one kind may be no more."""
    allowed, was_allowed = here.get("enum"), there.get("enum")
    if allowed is not None and (was_allowed is None or set(was_allowed) - set(allowed)):
        gone = [] if was_allowed is None else sorted(set(was_allowed) - set(allowed), key=str)
        what = ", ".join(map(repr, gone)) or f"anything but {', '.join(map(repr, allowed))}"
        yield Difference(field, breaks=True, told=f"takes {what} no more: an event with that becomes a dead letter")
    for bound, sign in _BOUNDS.items():
        limit, was_limit = here.get(bound), there.get(bound)
        if limit is not None and was_allowed is not None:
            numbers = [len(one) if bound.endswith("Length") else one for one in was_allowed]
            was_limit = min(numbers) if sign > 0 else max(numbers)
            was_limit -= sign * bound.startswith("exclusive")  # the bound itself is beyond it
        if limit is not None and (was_limit is None or sign * limit > sign * was_limit):
            was_told = "had none" if was_limit is None else f"was {was_limit}"
            told = f"{bound} is {limit} and {was_told}: an event beyond it becomes a dead letter"
            yield Difference(field, breaks=True, told=told)
    for rule in ("pattern", "multipleOf"):
        if rule in here and here[rule] != there.get(rule):
            told = f"{rule} is {here[rule]!r} now: an event that does not keep to it becomes a dead letter"
            yield Difference(field, breaks=True, told=told)


def _by_kind(value: Schema, whole: Schema) -> dict[str, Schema]:
    """Return the kinds of JSON value that a field may be, with what is said of each."""
    if "anyOf" in value:
        found: dict[str, Schema] = {}
        for one in value["anyOf"]:
            found |= _by_kind(_resolved(one, whole), whole)
        return found
    if "enum" in value:
        kinds: dict[str, list[Any]] = {}
        for one in value["enum"]:
            kinds.setdefault(_KINDS[type(one)], []).append(one)
        return {kind: {"enum": values} for kind, values in kinds.items()}
    kind = value.get("type")
    if kind is None:
        return {kind: {} for kind in _KINDS_ALL}
    return dict.fromkeys([kind] if isinstance(kind, str) else kind, value)


def _resolved(value: Schema, whole: Schema) -> Schema:
    """Follow references to where a type is written down."""
    while (name := value.get("$ref")) is not None:
        value = whole.get("$defs", {})[str(name).rsplit("/", 1)[-1]]
    return value


def _listed(kinds: Iterable[str]) -> str:
    """Say kinds in words.

    >>> _listed({"string", "null"}), _listed(_KINDS_ALL)
    ('a string or null', 'anything')
    """
    if set(kinds) == set(_KINDS_ALL):
        return "anything"
    articles = {"null": "null", "integer": "an integer", "array": "an array", "object": "an object"}
    return " or ".join(sorted(articles.get(kind, f"a {kind}") for kind in kinds))
