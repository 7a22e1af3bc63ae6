"""What was published beside what a replay of the same events gives, event by event."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TextIO

import msgspec

from headrace.models.pipeline import Pipeline
from headrace.schemas.codec import encode
from headrace.schemas.config import AT_LEAST_ONCE, Config
from headrace.schemas.errors import PredictionsDiffer
from headrace.schemas.position import Asked
from headrace.stream import topics
from headrace.stream.replay import Part, Replay, prepared
from headrace.stream.slice import Asking, Log, Reader, Slice, find

EXAMPLES = 10  # of each kind
READ_COUNT = 1_000
Id = str | int


class Difference(msgspec.Struct, frozen=True):
    """A field that was published with another value than the replay gives; null where there is no such field."""

    id: Id
    field: str
    published: Any
    replayed: Any
    partition: int  # of the event
    offset: int


class Missing(msgspec.Struct, frozen=True):
    """An event whose prediction nobody finds."""

    id: Id
    partition: int
    offset: int


class Unexpected(msgspec.Struct, frozen=True):
    """A prediction that the replay does not give. Partition and offset are its own."""

    id: Id | None
    reason: str
    partition: int
    offset: int


class Report(msgspec.Struct, kw_only=True):
    """What came of a comparison, in counts, and the first of each kind."""

    topic: str
    predictions: str
    records: int = 0
    rejected: int = 0
    equal: int = 0
    equal_in_other_bytes: int = 0  # of those that are equal
    different: int = 0
    missing: int = 0
    unexpected: int = 0
    repeated: int = 0  # equal, and there already
    outside: int = 0  # predictions of events that are not in the slice
    others: int = 0  # predictions of other models
    differences: list[Difference] = []
    missing_events: list[Missing] = []
    unexpected_predictions: list[Unexpected] = []
    notes: list[str] = []

    @property
    def all_equal(self) -> bool:
        """Say whether nothing is otherwise than the replay says."""
        return not (self.different or self.missing or self.unexpected)

    @property
    def verdict(self) -> str:
        """Return the counts that matter in one line."""
        return (
            f"{self.equal:,} equal, {self.different:,} different, {self.missing:,} missing, "
            f"{self.unexpected:,} unexpected"
        )

    def told(self) -> str:
        """Return what a person is told."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rejected = f", {self.rejected:,} of them rejected" if self.rejected else ""
        yield f"{self.records:,} records of {self.topic} replayed{rejected}, and compared with {self.predictions}:"
        yield f"  {self.verdict}"
        if self.equal_in_other_bytes:
            yield f"  equal field by field, in other bytes: {self.equal_in_other_bytes:,}"
        if self.repeated:
            yield f"  published again, and equal, as at-least-once allows: {self.repeated:,}"
        if self.others:
            yield f"  left out, of other models: {self.others:,}"
        for heading, found, count in (
            ("different", [*map(_difference, self.differences)], self.different),
            ("missing", [*map(_missing, self.missing_events)], self.missing),
            ("unexpected", [*map(_unexpected, self.unexpected_predictions)], self.unexpected),
        ):
            if count:
                yield f"{heading}{', the first' if count > EXAMPLES else ''}:"
                yield from (f"  {line}" for line in found)
        yield from self.notes


def _difference(one: Difference) -> str:
    shown = f"published {_shown(one.published)}, replayed {_shown(one.replayed)}"
    return f"{one.id}  {one.field}: {shown}  (event {one.partition}:{one.offset})"


def _missing(one: Missing) -> str:
    return f"{one.id}  (event {one.partition}:{one.offset})"


def _unexpected(one: Unexpected) -> str:
    return f"{'' if one.id is None else one.id}  {one.reason}  (prediction {one.partition}:{one.offset})"


def _shown(value: Any) -> str:
    return encode(value).decode()[:200]


class _Known(msgspec.Struct, gc=False):
    """What the replay says of one event: the bytes of its prediction, or why it has none."""

    partition: int
    offset: int
    value: bytes | None
    reason: str = ""
    seen: bool = False


class Comparison:
    """Compares predictions with those of a replay, by the id of the event. The replay comes first.

    Where several events have one id, each prediction is compared with the first of them that it equals and that
    has none yet, or else with the first that has none yet.

    >>> comparison = Comparison("id", "fraud")
    >>> for offset in range(3):
    ...     comparison.replayed(f"t{offset}", b'{"id":"t%d","score":0.5,"model":"fraud"}' % offset, 0, offset)
    >>> comparison.published(b'{"id":"t0","score":0.5,"model":"fraud"}', 2, 7)
    >>> comparison.published(b'{"id":"t1","score":0.4,"model":"fraud"}', 2, 8)
    >>> report = comparison.finish(Report(topic="cards", predictions="predictions"))
    >>> print(report.told())
    0 records of cards replayed, and compared with predictions:
      1 equal, 1 different, 1 missing, 0 unexpected
    different:
      t1  score: published 0.4, replayed 0.5  (event 0:1)
    missing:
      t2  (event 0:2)
    """

    def __init__(self, id_field: str, model: str, *, repeats_allowed: bool = False, whole: bool = False) -> None:
        self._model = model
        self._repeats_allowed = repeats_allowed
        self._whole = whole
        self._known: dict[Id, _Known] = {}
        self._namesakes: dict[Id, list[_Known]] = {}  # where there is more than one, all of them
        self._head, self._name = head_decoder(id_field, ("model", str | None, None)), head_decoder(id_field)
        self._unknown: dict[Id, Unexpected] = {}  # published, of events that the slice does not have
        self._report = Report(topic="", predictions="")

    def replayed(self, identity: Id, value: bytes | None, partition: int, offset: int, reason: str = "") -> None:
        """Take in what the replay says of an event; without a value it was rejected."""
        known = _Known(partition, offset, value, reason)
        first = self._known.setdefault(identity, known)
        if first is not known:
            self._namesakes.setdefault(identity, [first]).append(known)

    def published(self, value: bytes | None, partition: int, offset: int) -> None:
        """Compare a prediction that was published."""
        report = self._report
        try:
            head = self._head.decode(value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._unexpect(Unexpected(None, f"no prediction: {error}", partition, offset))
            return
        if head.model != self._model:
            report.others += 1
            return
        known = self._known.get(head.id)
        if known is None:
            if self._whole:
                # Perhaps its event came after the slice; that is seen when all is read.
                self._unknown.setdefault(head.id, Unexpected(head.id, "no event has this id", partition, offset))
            else:
                report.outside += 1
            return
        if known.seen or known.value != value:
            known = self._match(head.id, value)
        if known.value is None:
            reason = f"its event was rejected in the replay: {known.reason}"
            self._unexpect(Unexpected(head.id, reason, partition, offset))
        elif known.seen and known.value == value and self._repeats_allowed:
            report.repeated += 1
        elif known.seen:
            self._unexpect(Unexpected(head.id, "its event has a prediction already", partition, offset))
        else:
            known.seen = True
            self._compare(head.id, known, value or b"")

    def _match(self, identity: Id, value: bytes | None) -> _Known:
        """Return which of the events with this id a prediction is of, the likeliest."""
        among = self._namesakes.get(identity) or [self._known[identity]]
        return min(among, key=lambda one: (one.seen, one.value is None, one.value != value))

    def _compare(self, identity: Id, known: _Known, value: bytes) -> None:
        assert known.value is not None
        if known.value == value:
            self._report.equal += 1
            return
        found = list(differences(msgspec.json.decode(value), msgspec.json.decode(known.value)))
        if not found:
            self._report.equal += 1
            self._report.equal_in_other_bytes += 1
            return
        self._report.different += 1
        if self._report.different <= EXAMPLES:
            self._report.differences += [Difference(identity, *one, known.partition, known.offset) for one in found]

    def _unexpect(self, one: Unexpected) -> None:
        self._report.unexpected += 1
        if self._report.unexpected <= EXAMPLES:
            self._report.unexpected_predictions.append(one)

    @property
    def has_unknown(self) -> bool:
        """Say whether there are predictions whose events were not seen yet."""
        return bool(self._unknown)

    def came_later(self, value: bytes | None) -> None:
        """Hear of an event that came after the slice: its prediction is not unexpected."""
        if (identity := self.id_of(value)) is not None:
            self._unknown.pop(identity, None)

    def id_of(self, value: bytes | None) -> Id | None:
        """Return the id in an event or a prediction, if it has one."""
        try:
            return self._name.decode(value or b"").id  # type: ignore[no-any-return]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def finish(self, report: Report) -> Report:
        """Return what came of it, with what ``report`` says already."""
        for one in self._unknown.values():
            self._unexpect(one)
        ours = self._report
        listed = (one for identity in self._known for one in self._all(identity))
        for identity, known in listed:
            if known.value is not None and not known.seen:
                ours.missing += 1
                if ours.missing <= EXAMPLES:
                    ours.missing_events.append(Missing(identity, known.partition, known.offset))
        said = {name: getattr(report, name) for name in ("topic", "predictions", "records", "rejected", "notes")}
        return msgspec.structs.replace(ours, **said)

    def _all(self, identity: Id) -> list[tuple[Id, _Known]]:
        return [(identity, one) for one in self._namesakes.get(identity) or [self._known[identity]]]


def head_decoder(id_field: str, *more: Any) -> Any:
    """Return what reads the id and no more than it has to."""
    fields: list[Any] = [("id", Id), *more]
    return msgspec.json.Decoder(msgspec.defstruct("Head", fields, rename={"id": id_field}, gc=False))


def differences(published: Mapping[str, Any], replayed: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields in which two predictions differ, with both values. A number is equal however it is written.

    >>> list(differences({"id": "t1", "score": 1, "was": 2}, {"id": "t1", "score": 1.0, "is": 2}))
    [('was', 2, None), ('is', None, 2)]
    """
    for name in dict.fromkeys([*published, *replayed]):
        given, wanted = published.get(name), replayed.get(name)
        same = given == wanted and isinstance(given, bool) == isinstance(wanted, bool)
        if not same or (name in published) != (name in replayed):
            yield name, given, wanted


def parity(pipeline: Pipeline, config: Config, asked: Asked, *, progress: TextIO | None = None) -> Report:
    """Replay a slice, and compare it with what is published."""
    config = prepared(pipeline, config)
    asking = Asking(config)
    asking.partitions(config.topic_predictions)
    found = find(config, asked, remembers=pipeline.has_memory)
    # After the slice's end was settled: the predictions of everything before it are there, and can soon be seen.
    logs = asking.visible(config.topic_predictions)
    bytes_max = topics.bytes_max(config, config.topic_predictions, create=False)
    run = Replay(pipeline, config, found, bytes_max=bytes_max, progress=progress)
    comparison = Comparison(
        pipeline.wire.id, pipeline.name, repeats_allowed=config.guarantee == AT_LEAST_ONCE, whole=found.whole
    )
    for part in run.parts():
        _take(comparison, part)
    with closing(Reader(config)) as reader:
        for partition, log in logs.items():
            for messages in reader.read(config.topic_predictions, partition, *log, count=READ_COUNT):
                for message in messages:
                    comparison.published(message.value(), partition, message.offset() or 0)
        if comparison.has_unknown:
            _look_behind(comparison, found, asking.logs(asked.topic), reader)
    report = Report(
        topic=asked.topic,
        predictions=config.topic_predictions,
        records=run.summary.records,
        rejected=run.summary.rejected,
        notes=[*run.summary.notes, *_deleted(config.topic_predictions, logs)],
    )
    return comparison.finish(report)


def _take(comparison: Comparison, part: Part) -> None:
    scored, number = part.scored, part.partition
    for value, at in zip(scored.outputs.values, scored.places, strict=True):
        message = part.messages[at]
        identity = comparison.id_of(value)
        assert identity is not None, "a prediction has its event's id"
        comparison.replayed(identity, value, number, message.offset() or 0)
    for one in scored.rejections:
        message = part.messages[one.at]
        # Where not even the id can be read there is nothing that a prediction could be found by.
        if (identity := comparison.id_of(message.value())) is not None:
            comparison.replayed(identity, None, number, message.offset() or 0, one.reason)


def _look_behind(comparison: Comparison, found: Slice, logs: Mapping[int, Log], reader: Reader) -> None:
    """Read the events after the slice's end: the worker went on meanwhile."""
    ends = {span.partition: span.end for span in found.spans}
    for number, log in logs.items():
        for messages in reader.read(found.topic, number, ends.get(number, log.first), log.end, count=READ_COUNT):
            for message in messages:
                comparison.came_later(message.value())


def _deleted(topic: str, logs: Mapping[int, Log]) -> Sequence[str]:
    gone = ", ".join(f"{topic}[{number}] at {log.first}" for number, log in logs.items() if log.first)
    return [f"predictions were deleted: the log begins with {gone}; what was before counts as missing"] if gone else []


def main(pipeline: Pipeline, config: Config, asked: Asked, *, as_json: bool) -> None:
    """Compare, and tell on stdout what came of it; anything that is not equal ends the command with an error."""
    report = parity(pipeline, config, asked, progress=sys.stderr)
    print(encode(report).decode() if as_json else report.told(), flush=True)  # noqa: T201
    if not report.all_equal:
        raise PredictionsDiffer(f"{report.verdict}; {asked.topic} was replayed against {config.topic_predictions}")
