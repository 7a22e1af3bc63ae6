"""The whole story of one event: what came, what was known, what was computed, what was published, what became of it."""

import re
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from headrace.models import snapshot
from headrace.models.change import Remembered
from headrace.models.features import Floats
from headrace.models.keeper import Wanted
from headrace.models.keyed import KeyedFeature
from headrace.models.memory import Array, Ints
from headrace.models.pipeline import Pipeline, Seen
from headrace.models.state import State, Table
from headrace.models.targets import Target
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import CONNECT, OURS
from headrace.schemas.errors import EventMissing, TopicMissing
from headrace.schemas.position import Asked, Position
from headrace.schemas.prediction import Contribution
from headrace.stream import topics
from headrace.stream.agents import Scored, Scorer
from headrace.stream.files import original
from headrace.stream.parity import differences, head_decoder
from headrace.stream.replay import with_group
from headrace.stream.slice import Asking, Log, Reader, find
from headrace.stream.state import HEAD, Found

READ_COUNT = 1_000
EARLIER_MS = 60_000  # before the event was written: clocks of producers and brokers differ
_PLACE = re.compile(r"(.+):(\d+):(\d+)")


class At(msgspec.Struct, frozen=True):
    """Where a record is, and when it was written."""

    topic: str
    partition: int
    offset: int
    written: str | None = None

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] offset {self.offset}"


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What came before with the same key. Ages are in seconds, in the time of events."""

    key: dict[str, Any]
    events: int
    known_since: float | None = None  # the time of the first of them
    known_for_s: float | None = None
    last_at: float | None = None
    last_before_s: float | None = None
    last_offset: int | None = None
    remembered: bool = False  # it has a place in what a worker remembers: it did not leave


class FeatureSeen(msgspec.Struct, frozen=True):
    """A feature as the models read it."""

    name: str
    value: float | None
    origin: str
    per: tuple[str, ...] = ()  # whose past it looks at


class Rejected(msgspec.Struct, frozen=True):
    """Why the event has no prediction."""

    reason: str
    message: str


class Record(msgspec.Struct, frozen=True):
    """A record that was found, and where."""

    at: At
    value: Any


class Story(msgspec.Struct, kw_only=True):
    """All that is known of one event."""

    pipeline: str
    version: str
    id: str | int | None
    event: At
    key: str | None
    value: Any
    past: list[Past] = []
    features: list[FeatureSeen] = []
    static: float | None = None
    online: float | None = None
    weight: float | None = None  # of the learner in the score
    score: float | None = None
    combine: str = ""
    flags: list[str] = []
    reasons: list[Contribution] = []
    rejected: Rejected | None = None
    recomputed: str = ""  # from what; empty where it could not be
    published: Record | None = None
    published_count: int = 0
    same_bits: bool | None = None  # what is computed now is what was published
    differences: dict[str, tuple[Any, Any]] = {}  # published, and computed now
    dead_letter: Record | None = None
    outcomes: list[Record] = []
    notes: list[str] = []

    def told(self) -> str:
        """Return what a person is told."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.pipeline} {self.version}: event {self.id if self.id is not None else '(without an id)'}"
        yield from ("", "The event", f"  {self.event}, written {self.event.written or 'nobody noted when'}")
        yield f"  key {self.key}  value {_json(self.value)}"
        if self.past:
            yield from ("", "What was known before it")
            yield from (f"  {line}" for line in _table([_past(one) for one in self.past]))
        if self.features:
            yield from ("", "Features")
            yield from (
                f"  {line}" for line in _table([(one.name, _json(one.value), one.origin) for one in self.features])
            )
        if self.rejected is not None:
            yield from ("", "Rejected", f"  {self.rejected.reason}: {self.rejected.message}")
        if self.score is not None:
            yield from (
                "",
                f"Scores, computed again from {self.recomputed}" if self.recomputed else "Scores, as published",
            )
            rows = [("static", _json(self.static)), ("online", _json(self.online)), ("score", _json(self.score))]
            yield from (f"  {line}" for line in _table(rows))
            if self.combine:
                weight = "" if self.weight is None else f": the learner's weight is {self.weight:.4g}"
                yield f"  {self.combine}{weight}"
            if self.flags:
                yield f"  flags: {', '.join(self.flags)}"
        if self.reasons:
            yield from ("", "Reasons")
            told = [(one.model, one.code, _json(one.value), f"{one.contribution:+.6g}") for one in self.reasons]
            yield from (f"  {line}" for line in _table(told))
        yield from ("", "Published")
        yield from (f"  {line}" for line in self._published())
        if self.outcomes:
            yield from ("", "What became known")
            for one in self.outcomes:
                said = one.value
                yield f"  {said['by']}: {_json(said['label'])}, true since {_when(said['at'])}  ({one.at})"
        if self.notes:
            yield ""
        yield from self.notes

    def _published(self) -> Iterator[str]:
        if self.dead_letter is not None:
            yield f"a dead letter, {self.dead_letter.at}: {self.dead_letter.value}"
        if self.published is None:
            if self.dead_letter is None:
                yield "nothing was found"
            return
        more = f", and {self.published_count - 1} times more" if self.published_count > 1 else ""
        yield f"{self.published.at}, written {self.published.at.written}{more}"
        yield f"{_json(self.published.value)}"
        if self.same_bits:
            yield "computed again it is the same, bit for bit"
        for field, (was, now) in self.differences.items():
            yield f"{field}: published {_json(was)}, computed now {_json(now)}"


def _past(one: Past) -> tuple[str, ...]:
    key = ", ".join(f"{name} = {value}" for name, value in one.key.items())
    if not one.events:
        return (key, "nothing: it is the first")
    assert one.known_for_s is not None
    assert one.last_before_s is not None
    gone = "" if one.remembered else "; no longer remembered"
    return (
        key,
        f"{one.events:,} events",
        f"known for {_span(one.known_for_s)}",
        f"last seen {_span(one.last_before_s)} before, at offset {one.last_offset}{gone}",
    )


def _span(seconds: float) -> str:
    """Return a span as people read it.

    >>> _span(0.25), _span(90.0), _span(200_000.0)
    ('0.25 s', '1.5 min', '2.31 d')
    """
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _json(value: Any) -> str:
    return encode(value).decode()


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(at)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*[(*row, *[""] * 4)[:4] for row in rows], strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


# The records.


def _stamp(message: Message) -> int | None:
    kind, milliseconds = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds


def _at(message: Message) -> At:
    stamp = _stamp(message)
    written = None if stamp is None else _when(stamp / 1_000)
    return At(message.topic() or "", message.partition() or 0, message.offset() or 0, written)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "backslashreplace")


class Shelf(NamedTuple):
    """A broker's topics, to be read without a group."""

    asking: Asking
    reader: Reader

    def records(self, topic: str, logs: Mapping[int, Log]) -> Iterator[Message]:
        """Yield what partitions hold, one after the other."""
        for number, log in logs.items():
            for messages in self.reader.read(topic, number, *log, count=READ_COUNT):
                yield from messages

    def since(self, topic: str, time_ms: int | None) -> dict[int, Log]:
        """Return what was written from a time on, or all that there is; nothing of a topic that is not there."""
        try:
            logs = self.asking.logs(topic)
        except TopicMissing:
            return {}
        if time_ms is None:
            return logs
        begin = self.asking.at(topic, max(0, time_ms - EARLIER_MS))
        return {number: log._replace(first=max(log.first, begin.get(number, log.end))) for number, log in logs.items()}


def _place_of(wanted: str, topic: str) -> tuple[int, int] | None:
    """Return partition and offset, where they are what was asked for.

    >>> _place_of("cards:2:41", "cards"), _place_of("a:2:41", "cards"), _place_of("t41", "cards")
    ((2, 41), None, None)
    """
    found = _PLACE.fullmatch(wanted)
    return (int(found[2]), int(found[3])) if found and found[1] == topic else None


def _look_for(pipeline: Pipeline, config: Config, wanted: str, asked: Asked, shelf: Shelf) -> tuple[Message, list[At]]:
    """Return the event's record, and where there are others with its id."""
    place = _place_of(wanted, asked.topic)
    if place is not None:
        log = shelf.asking.logs(asked.topic).get(place[0])
        if log is not None and log.first <= place[1] < log.end:
            for message in shelf.records(asked.topic, {place[0]: Log(place[1], place[1] + 1)}):
                return message, []
        there = "no such partition" if log is None else f"the partition has the offsets {log.first} to {log.end}"
        raise EventMissing(f"{wanted}: no record is there; {there}. What lies between may be a marker of a transaction")
    found = find(config, asked, remembers=False)
    decode, others, first = head_decoder(pipeline.wire.id).decode, [], None
    spans = {span.partition: Log(span.begin, span.end) for span in found.spans}
    for message in shelf.records(asked.topic, spans):
        try:
            identity = decode(message.value() or b"").id
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if str(identity) != wanted:
            continue
        if first is None:
            first = message
        else:
            others.append(_at(message))
    if first is not None:
        return first, others
    looked = ", ".join(f"{asked.topic}[{number}] {log.first} to {log.end}" for number, log in spans.items())
    raise EventMissing(
        f"{wanted}: no event has this {pipeline.wire.id}; looked at {looked}. What is older was deleted, or lies "
        f"outside of --from, --to and --partition; of one that is not JSON give the place, as in {asked.topic}:0:41"
    )


class Watch:
    """Counts what came before an event with the same keys."""

    def __init__(self, pipeline: Pipeline, kinds: Sequence[tuple[str, ...]], event: Message) -> None:
        self._decode = msgspec.json.Decoder(pipeline.events).decode
        self._time = pipeline.wire.time
        self._missing = pipeline.missing
        self._kinds = kinds
        self._mine = self._decoded(event)
        self._seen: dict[tuple[str, ...], list[Any]] = {kind: [0, np.inf, -np.inf, None] for kind in kinds}

    def _decoded(self, message: Message) -> Any:
        """Return the event; nothing where a worker would not have taken it in either."""
        if message.key() is None:
            return None
        try:
            return self._decode(message.value() or b"")
        except Exception:  # noqa: BLE001 - the user's own class has a say in __post_init__
            return None

    def take(self, message: Message) -> None:
        """Take in an event that came before."""
        event = self._decoded(message)
        if event is None or self._mine is None:
            return
        at = getattr(event, self._time)
        for kind, seen in self._seen.items():
            if all(getattr(event, name) == getattr(self._mine, name) for name in kind):
                seen[0] += 1
                seen[1] = min(seen[1], at)
                if at >= seen[2]:
                    seen[2:] = at, message.offset()

    def past(self, state: State) -> list[Past]:
        """Return what came before, per kind of key."""
        if self._mine is None:
            return []
        made, at = [], getattr(self._mine, self._time)
        for kind in self._kinds:
            count, first, last, offset = self._seen[kind]
            values = [getattr(self._mine, name) for name in kind]
            key = dict(zip(kind, values, strict=True))
            if not count:
                made.append(Past(key=key, events=0))
                continue
            made.append(
                Past(
                    key=key,
                    events=count,
                    known_since=first,
                    known_for_s=at - first,
                    last_at=last,
                    last_before_s=at - last,
                    last_offset=offset,
                    remembered=state.tables[kind].knows(
                        [
                            self._missing.get(name) if value is None else value
                            for name, value in zip(kind, values, strict=True)
                        ]
                    ),
                )
            )
        return made


# What was learned by then.


class History(Found):
    """All that a changelog still holds, also what was deleted and is not yet gone."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[int, Any] = {}  # by the moment that they are of

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record in."""
        if value is None:
            return
        super().take(key, value)
        if key == HEAD and self.head is not None and (data := self.snapshot()) is not None:
            self.states[self.head["offset"]] = (self.head["fingerprint"], data)

    def before(self, pipeline: Pipeline, identity: Any) -> State | None:
        """Return what was remembered when the event of this id was scored; None where too little is left.

        Other events that were scored in the same step are not in it, whether they came before this one or after it.
        """
        moment, rest = self._scored_in(identity)
        if moment is None:
            return None
        for begin in sorted((at for at in self.states if at <= moment), reverse=True):
            state, (fingerprint, data) = pipeline.fresh(), self.states[begin]
            if fingerprint != state.fingerprint:
                continue
            if data:
                state.load(data)
            at = begin
            while at < moment and (change := self.changes.get(at)) is not None and change.whole:
                if change.blob:
                    state.take(snapshot.decode(change.blob))
                at = change.next_offset
            if at == moment:
                state.take(rest)
                return state
        return None

    def _scored_in(self, identity: Any) -> tuple[int | None, list[Any]]:
        """Return the change in which an event was scored, and the parts of that step before it."""
        for offset in sorted(self.changes):
            change = self.changes[offset]
            parts = snapshot.decode(change.blob) if change.whole and change.blob else []
            for place, part in enumerate(parts):
                if "scored" in part and identity in part["scored"]["ids"]:
                    # Of one part of a step all events are scored with what was known before it: its own `events` come
                    # in the part before this one.
                    return offset, parts[: place - 1]
        return None, []


class Then:
    """A table as it is made again from events alone, with what it had heard of labels when an event was scored."""

    def __init__(self, table: Table, then: Table) -> None:
        self._table, self._then = table, then
        self.missed: list[Ints] = []  # the places of events that came too late

    def step(self, at: Floats, fields: Remembered) -> dict[Wanted, Array]:
        """Return what is wanted, as it was before the event."""
        made, then = self._table.step(at, fields), self._then.step(at, fields)
        self.missed = self._table.missed
        return {one: then[one] if isinstance(one, Target) else column for one, column in made.items()}


def as_then(pipeline: Pipeline, state: State, then: State) -> None:
    """Let a state that was made from events know by labels what another one did."""
    state.learning = then.learning
    tables = cast("Any", state.tables)
    if pipeline.targets:
        tables |= {keys: Then(table, then.tables[keys]) for keys, table in state.tables.items()}


def _known(pipeline: Pipeline, config: Config, number: int, identity: Any, shelf: Shelf) -> tuple[State | None, str]:
    """Return what was known by labels when an event was scored, or why nobody can tell."""
    history = History()
    try:
        log = shelf.asking.logs(config.state_topic).get(number)
    except TopicMissing:
        return None, f"there is no changelog {config.state_topic}; --group names the worker's group"
    try:
        for message in shelf.records(config.state_topic, {} if log is None else {number: log}):
            history.take(message.key() or b"", message.value())
        then = history.before(pipeline, identity)
    except (snapshot.Unreadable, struct.error, KeyError, TypeError, ValueError, IndexError) as error:
        return None, f"the changelog {config.state_topic} cannot be read: {error}"
    why = f"the changelog {config.state_topic}[{number}] no longer leads to the step in which it was scored"
    return then, "" if then is not None else why


# The story.


def explain(pipeline: Pipeline, config: Config, wanted: str, asked: Asked) -> Story:
    """Find an event by its id, or by TOPIC:PARTITION:OFFSET, and return its story. Nobody's group hears of it."""
    config = with_group(pipeline, config)
    with closing(Reader(config)) as reader:
        shelf = Shelf(Asking(config), reader)
        message, others = _look_for(pipeline, config, wanted, asked, shelf)
        story = _begun(pipeline, message)
        if others:
            story.notes.append(
                f"other events have this id too, the first is told of: {', '.join(map(str, others[:3]))}"
            )
        scored = _computed(pipeline, config, message, asked, shelf, story)
        _add_published(pipeline, config, message, shelf, story, scored)
        _add_outcomes(pipeline, config, shelf, story)
    return story


def _begun(pipeline: Pipeline, message: Message) -> Story:
    value = message.value()
    try:
        identity = head_decoder(pipeline.wire.id).decode(value or b"").id
    except (msgspec.DecodeError, UnicodeDecodeError):
        identity = None
    return Story(
        pipeline=pipeline.name,
        version=pipeline.version,
        id=identity,
        event=_at(message),
        key=_text(message.key()),
        value=None if value is None else original(value),
    )


def _computed(pipeline: Pipeline, config: Config, message: Message, asked: Asked, shelf: Shelf, story: Story) -> Scored:
    """Compute the event again, with what was known before it."""
    number, offset = story.event.partition, story.event.offset
    here = Asked(asked.topic, Position.parsed(str(offset)), Position.parsed(str(offset + 1)), asked.warm_up, (number,))
    found = find(config, here, remembers=pipeline.has_memory)
    story.notes += found.notes
    (span,) = found.spans
    bytes_max = topics.bytes_max(config, config.topic_predictions, create=False)
    scorer = Scorer(pipeline, config, {config.topic_predictions: bytes_max})
    state, why = pipeline.fresh(waits=bool(pipeline.targets)), ""
    watch = Watch(pipeline, list(state.tables), message)
    for messages in shelf.reader.read(asked.topic, number, span.warm, span.begin, count=config.batch_count_max):
        scorer.remember(messages, state)
        for one in messages if state.tables else ():
            watch.take(one)
    story.past = watch.past(state)
    story.recomputed = "the events before it" if pipeline.has_memory else "the event alone"
    if pipeline.labels is not None and (pipeline.online is not None or pipeline.targets):
        then, why = _known(pipeline, config, number, story.id, shelf)
        if then is not None:
            as_then(pipeline, state, then)
            story.recomputed = f"the events before it, and what had been learned by then ({config.state_topic})"
        else:
            story.recomputed = ""
    seen: list[Seen] = []
    scored = scorer.score([message], state, seen)
    if seen:
        _add_seen(pipeline, story, seen[0])
    if scored.predictions:
        made = scored.predictions[0]
        story.flags = list(getattr(made, "flags"))  # noqa: B009 - the struct's type is made at run time
        story.reasons = list(getattr(made, "reasons", ()))
    for rejection in scored.rejections:
        story.rejected = Rejected(rejection.reason, rejection.message)
        story.score = story.static = story.online = None
    if not story.recomputed and pipeline.targets:
        # Nor can what looks back at labels, and the models that read it.
        story.static = None
        story.features = [
            msgspec.structs.replace(one, value=None) if one.name in pipeline.targets else one for one in story.features
        ]
    if not story.recomputed and not scored.rejections:
        what = "scores are" if pipeline.targets else "learner's score is"
        story.notes.append(f"the {what} not computed again: {why}")
    return scored


def _add_seen(pipeline: Pipeline, story: Story, seen: Seen) -> None:
    story.features = [
        FeatureSeen(name, _first(seen.features[name]), feature.origin, getattr(feature, "keys", ()))
        if isinstance(feature, KeyedFeature)
        else FeatureSeen(name, _first(seen.features[name]), feature.origin)
        for name, feature in pipeline.features.items()
    ]
    if pipeline.static is not None and not (seen.stood_in is not None and seen.stood_in[0]):
        story.static = _first(seen.static)
    story.online, story.score = _first(seen.online), _first(seen.scores)
    if pipeline.combine is not None:
        story.combine, story.weight = repr(pipeline.combine), _first(seen.weights)


def _first(column: Floats | None) -> float | None:
    return float(column[0]) if column is not None and np.isfinite(column[0]) else None


def _add_published(
    pipeline: Pipeline, config: Config, event: Message, shelf: Shelf, story: Story, scored: Scored
) -> None:
    """Find what was published of it, and compare."""
    stamp = _stamp(event)
    values = [one for one in _of_event(pipeline, config.topic_predictions, shelf, stamp, story.id) if one is not None]
    story.published_count = len(values)
    if values:
        first = values[0]
        raw = first.value() or b""
        story.published = Record(_at(first), original(raw))
        was: dict[str, Any] = msgspec.json.decode(raw)
        if not story.recomputed:
            # Without what was learned only what the labels have no say in can be compared.
            story.online, story.score = was.get("online"), was.get("score")
            story.weight, story.flags = None, was.get("flags", [])
            told = msgspec.convert(was.get("reasons", []), list[Contribution])
            story.reasons = told
            if pipeline.targets:
                story.static = was.get("static")
            elif story.static != was.get("static"):
                story.differences["static"] = (was.get("static"), story.static)
        elif scored.outputs.values:
            story.same_bits = scored.outputs.values[0] == raw
            now = msgspec.json.decode(scored.outputs.values[0])
            story.differences = {name: (old, new) for name, old, new in differences(was, now)}
        else:
            story.same_bits = False
    elif not story.recomputed:
        story.online = story.score = story.weight = None
        story.flags, story.reasons = [], []
    if story.rejected is not None or not values:
        story.dead_letter = _letter(config, shelf, stamp, story.event)
    if story.published is None and story.dead_letter is None:
        committed = shelf.asking.committed(config.group, story.event.topic).get(story.event.partition)
        at = "nowhere in this partition yet" if committed is None else f"at offset {committed}"
        waits = committed is None or committed <= story.event.offset
        why = "it is to be scored yet" if waits else "it was deleted, or another group's worker published it elsewhere"
        story.notes.append(
            f"nothing of it is in {config.topic_predictions} or {config.topic_dead_letters}; "
            f"group {config.group} is {at}: {why}"
        )


def _of_event(pipeline: Pipeline, topic: str, shelf: Shelf, stamp: int | None, identity: Any) -> list[Message]:
    """Return what this pipeline wrote of an event into a topic, from when the event was written; or else from ever."""
    decode = head_decoder(pipeline.wire.id, ("model", str | None, None)).decode
    for since in dict.fromkeys((stamp, None)):
        found = []
        for message in shelf.records(topic, shelf.since(topic, since)):
            try:
                head = decode(message.value() or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if head.id == identity and head.model == pipeline.name:
                found.append(message)
        if found:
            return found
    return []


def _letter(config: Config, shelf: Shelf, stamp: int | None, event: At) -> Record | None:
    place = {"topic": event.topic, "partition": str(event.partition), "offset": str(event.offset)}
    want = {f"{CONNECT}{name}": text.encode() for name, text in place.items()}
    for message in shelf.records(config.topic_dead_letters, shelf.since(config.topic_dead_letters, stamp)):
        headers: dict[str, Any] = dict(message.headers() or [])
        if all(headers.get(name) == text for name, text in want.items()):
            code, text = (_text(headers.get(name)) for name in (f"{OURS}code", f"{CONNECT}exception.message"))
            return Record(_at(message), f"{code}: {text}")
    return None


def _add_outcomes(pipeline: Pipeline, config: Config, shelf: Shelf, story: Story) -> None:
    if pipeline.labels is None:
        return
    for message in _of_event(pipeline, config.topic_outcomes, shelf, None, story.id):
        story.outcomes.append(Record(_at(message), msgspec.json.decode(message.value() or b"null")))
    if not story.outcomes:
        within = pipeline.labels.truth.within
        story.notes.append(
            f"no label or outcome of it is in {config.topic_outcomes} yet; labels are waited for {_span(within)}"
        )


def main(pipeline: Pipeline, config: Config, wanted: str, asked: Asked, *, as_json: bool) -> None:
    """Tell the story on stdout."""
    began = time.monotonic()
    story = explain(pipeline, config, wanted, asked)
    print(_json(story) if as_json else story.told(), flush=True)  # noqa: T201
    print(f"found in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)  # noqa: T201
