"""``headrace schema``: the class of the events as JSON Schema, and whether it reads what was written before."""

import json
from pathlib import Path
from typing import Any

from headrace.schemas.codec import EventCodec
from headrace.schemas.compatibility import compared, schema_of
from headrace.schemas.errors import BadFile
from headrace.stream import terminal
from headrace.stream.load import load_pipeline


def show(path: str) -> int:
    """Print the schema, to be kept beside the pipeline."""
    terminal.line(json.dumps(schema_of(load_pipeline(path).events), indent=2))
    return 0


def check(path: str, old: str, *, as_json: bool) -> int:
    """Say how today's class of events differs from a schema, or reads events, that were kept.

    Return 1 where something that was well becomes a dead letter.
    """
    events = load_pipeline(path).events
    try:
        text = Path(old).read_bytes()
    except OSError as error:
        raise BadFile(f"{old}: {error.strerror}") from error
    try:
        known = json.loads(text)
    except ValueError:
        known = None  # lines of events, or no JSON at all: what is wrong with each is told
    if isinstance(known, dict) and ("properties" in known or "$defs" in known):
        return _schemas(events, known, old, as_json=as_json)
    return _samples(events, text.splitlines(), old, as_json=as_json)


def _schemas(events: Any, known: dict[str, Any], old: str, *, as_json: bool) -> int:
    try:
        found = compared(known, schema_of(events))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{old}: no JSON Schema that headrace schema show wrote ({error!r})") from error
    breaks = [one for one in found if one.breaks]
    for one in found:
        if as_json:
            terminal.json_line(one._asdict())
        else:
            terminal.line(f"{'breaks' if one.breaks else 'fine':6}  {one.field}: {one.told}")
    if not as_json:
        name = events.__name__
        if breaks:
            many = f"{len(breaks)} of {len(found)} differences break{'s' if len(breaks) == 1 else ''}"
            terminal.line(f"{name} does not read all that was written for {old}: {many}")
        else:
            terminal.line(f"{name} reads what was written for {old}{'' if found else ': nothing changed'}")
    return 1 if breaks else 0


def _samples(events: Any, lines: list[bytes], old: str, *, as_json: bool) -> int:
    kept = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not kept:
        raise BadFile(f"{old}: there is nothing in it; expected JSON Schema, or events as lines of JSON")
    _, rejections = EventCodec(events).decode([line for _, line in kept])
    by: dict[tuple[str, str], list[int]] = {}
    for one in rejections:
        by.setdefault((one.reason.value, one.message), []).append(kept[one.at][0])
    for (reason, message), numbers in by.items():
        if as_json:
            terminal.json_line({"reason": reason, "message": message, "lines": numbers})
        else:
            many = "1 event" if len(numbers) == 1 else f"{len(numbers):,} events"
            terminal.line(f"breaks  {many}, {reason}, line {numbers[0]}: {message}")
    if not as_json:
        if rejections:
            terminal.line(f"{len(rejections):,} of the {len(kept):,} events of {old} would be dead letters")
        else:
            terminal.line(f"{events.__name__} reads all {len(kept):,} events of {old}")
    return 1 if rejections else 0
