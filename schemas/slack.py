"""An alert as a message to Slack."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headrace.schemas.alert import Alert

# Slack refuses a message of which a part is longer.
HEADER_CHARACTERS_MAX = 150
TEXT_CHARACTERS_MAX = 3_000
FIELD_CHARACTERS_MAX = 2_000
MOVED_COUNT_MAX = 10

_encode = msgspec.json.Encoder().encode
_SINCE_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def message(alert: Alert) -> bytes:
    """Return what Slack is sent: a line for the notification, and blocks.

    What an alert says may come from events, and those from anybody. So nothing in it becomes a link or calls anybody:
    ``&``, ``<`` and ``>`` are written as Slack wants them, and nothing else is looked for.
    """
    title = f"{alert.severity.upper()}: {alert.kind} {alert.state}"
    text = _escaped(alert.text, TEXT_CHARACTERS_MAX)
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _cut(title, HEADER_CHARACTERS_MAX), "emoji": False},
        }
    ]
    if text.strip():
        blocks.append({"type": "section", "text": _marked(text)})
    if fields := [_marked(f"*{name}*\n{_escaped(value, FIELD_CHARACTERS_MAX - 40)}") for name, value in _facts(alert)]:
        blocks.append({"type": "section", "fields": fields})
    said = " · ".join(part for part in (alert.id, when(alert.at), alert.pipeline, alert.version) if part)
    blocks.append({"type": "context", "elements": [_marked(_escaped(said, FIELD_CHARACTERS_MAX))]})
    short = _escaped(f"{title}: {alert.text}", TEXT_CHARACTERS_MAX)
    return _encode({"text": short, "blocks": blocks, "unfurl_links": False, "unfurl_media": False})


def _facts(alert: Alert) -> Iterator[tuple[str, str]]:
    if alert.series:
        yield "Series", alert.series
    if alert.slice:
        yield "Slice", alert.slice
    if alert.since is not None:
        yield "Since", when(alert.since)
    if alert.evidence.distances:
        yield "Distances", _numbers(alert.evidence.distances)
    if alert.effect:
        yield "Effect", _numbers(alert.effect)
    if alert.explained_by:
        more = len(alert.explained_by) - MOVED_COUNT_MAX
        shown = ", ".join(alert.explained_by[:MOVED_COUNT_MAX])
        yield "Moved with it", f"{shown} and {more} more" if more > 0 else shown
    if alert.action:
        yield "Action", alert.action


def _numbers(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in list(numbers.items())[:MOVED_COUNT_MAX])


def when(seconds: float) -> str:
    """Return a time as people read it, or the number where it is beyond all calendars.

    >>> when(12.5), when(1e300)
    ('1970-01-01T00:00:12Z', '1e+300 s')
    """
    try:
        return (_SINCE_1970 + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:
        return f"{seconds:g} s"


def _marked(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _escaped(text: str, most: int) -> str:
    # Cut first, so that no escape is cut in two; an escape is at most five characters for one.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    while len(escaped) > most:
        text = _cut(text, max(1, len(text) - (len(escaped) - most + 4) // 5))
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
