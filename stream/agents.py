"""Kafka in, effects out. Decides nothing."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any, NamedTuple, Protocol, cast

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message
from numpy.typing import NDArray

from headrace.models.actions import News
from headrace.models.learning import Learning
from headrace.models.pipeline import Effects, Pipeline, Seen
from headrace.models.state import State
from headrace.schemas import dead_letter
from headrace.schemas.alert import Alert
from headrace.schemas.codec import EventCodec, encode, encode_all
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header, Reason, Rejection
from headrace.schemas.order import Order
from headrace.schemas.outcome import By
from headrace.schemas.trace import TRACEPARENT
from headrace.stream import clients
from headrace.stream.commit import Batch, Committer, Output, Outputs
from headrace.stream.guard import without_reply_headers
from headrace.stream.monitoring import Monitoring
from headrace.stream.poller import Poller
from headrace.stream.shared import Letter as Writes
from headrace.stream.shared import Shared
from headrace.stream.state import Memories, Memory
from headrace.stream.telemetry import NEWEST_COUNT, Laps, Letter, Step, Tally, Telemetry, grown, written
from headrace.stream.traces import FAR, Spans, Traces
from headrace.stream.transport import RecordBatch

log = logging.getLogger("headrace.agents")

# A step that takes longer than this holds up timers and pages; from then on steps run beside the loop.
SLOW_STEP_SECONDS = 0.1
REPORT_SECONDS = 5.0  # from one report on quality to the next
LETTER_CHARACTERS_MAX = 300  # of what is said of a dead letter on the page


class Scored(NamedTuple):
    """What became of the records of a batch: each has a prediction or a rejection.

    ``places`` says which record each prediction is of; ``outputs`` are the same predictions as they are published.
    """

    places: list[int]
    predictions: list[Any]
    outputs: Outputs
    rejections: list[Rejection]
    effects: Effects
    last: Any = None  # the last of the events


class Scorer:
    """From the records of a batch to what is to be published: decode, step, encode."""

    def __init__(
        self,
        pipeline: Pipeline,
        config: Config,
        bytes_max: dict[str, int],
        shared: Shared | None = None,
        monitoring: Monitoring | None = None,
        *,
        telemetry: Telemetry | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces
        self._spans: Spans | None = None  # of the records of the step that is under way
        self._begun: list[Spans] = []  # in this step, and for its commit to end
        self.monitoring = monitoring  # the part in the watch over the whole stream, where there is one
        self._orders = None if monitoring is None else monitoring.orders
        self.shared = shared  # the part in a learner that all partitions share, where there is one
        self._telemetry = telemetry or Telemetry(pipeline.kind)
        self._laps = Laps()
        self._pipeline = pipeline
        self._config = config
        self._codec = EventCodec(pipeline.events, bytes_max=config.event_bytes_max)
        self._bytes_max = bytes_max
        self._key = attrgetter(pipeline.wire.key)
        self._time = attrgetter(pipeline.wire.time)
        labels = pipeline.labels
        if labels is not None:
            self._label_codec = EventCodec(labels, bytes_max=config.event_bytes_max)
            self._label_time = attrgetter(labels.wire.time)
            self._label_id = labels.wire.id
        self.turn = asyncio.Lock()  # one thing at a time happens to what is remembered
        self._ahead_max = (
            config.event_ahead_max_ms / 1_000 if pipeline.looks_back or pipeline.learns or pipeline.watch else 0.0
        )
        self.scored = 0
        self.labelled = 0
        self.rejected = 0
        self.busy = False  # a batch is between its arrival and the moment it is carried out
        self.stepping = False  # a step is under way, on a thread beside the event loop perhaps
        self._looks: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()

    def step(self, messages: list[Message], memory: Memory, next_offset: int, topic: str = "") -> Outputs:
        """Return what is to be published for these records of a topic, which end before ``next_offset``."""
        memory.whole = False
        self._spans, self._begun = None, []
        if self.shared is not None and topic == self.shared.topic:
            learn = partial(self.shared.step, messages, memory, next_offset)
            return self._aside(messages, memory, topic, learn)
        if self.monitoring is not None and topic in self.monitoring.topics:
            look = partial(self.monitoring.step, messages, memory, next_offset, topic)
            outputs = self._aside(messages, memory, topic, look)
            assert outputs.tally is not None
            told = self.monitoring
            outputs = outputs._replace(tally=outputs.tally._replace(alerts=told.told, orders=told.ordered))
            return self._looked(messages, outputs, memory) if self._traces is not None else outputs
        if topic in self._pipeline.topics[1:]:
            return self._learn(messages, memory, next_offset, topic)
        if self.shared is not None:
            self.shared.adopt(memory)
        obeyed = self._obey(memory) if messages else None
        breaker, learning = memory.state.breaker, memory.state.learning
        before = breaker.is_open if breaker else False
        known = _known(learning)
        laps = self._laps
        laps.begin()
        if self._traces is not None:
            self._spans = self._traces.begin(messages, _headers(messages))
            self._begun.append(self._spans)
        scored = self.score(messages, memory.state)
        if self._traces is not None and self._spans is not None:
            self._traces.scored(self._spans, scored.places, scored.predictions, memory.place[1])
        if breaker and breaker.is_open != before:
            log.warning("%s[%d]: %s", *memory.place, str(breaker))
        others = [self._dead_letter(messages[one.at], one) for one in scored.rejections]
        others += self._alerts(scored.effects, memory)
        others += map(self._outcome, scored.effects.outcomes)
        others += self._lessons(scored.effects, memory)
        others += self._slices(scored.effects, memory)
        applied = self._applied(obeyed, memory, messages, others)
        if self._pipeline.has_memory:
            change = scored.effects.change
            if obeyed is not None:
                change = [{"orders": obeyed.plain()}, *(change or ())]
            others += memory.keep(change, next_offset, _first(messages, next_offset))
            others += self.reports(memory)
        self.scored += len(scored.places)
        self.rejected += len(scored.rejections)
        outputs = scored.outputs._replace(others=others, size=scored.outputs.size + _size(others))
        laps.encode = laps.lap()
        if not messages:
            return outputs
        if self._spans is not None:
            self._spans.refused(scored.rejections)
            self._spans.stepped({"decoded": laps.decode, "scored": laps.score, "encoded": laps.encode})
        topic = topic or self._pipeline.wire.topic
        many, refused = len(scored.places), scored.rejections
        self._telemetry.stepped(Step(topic, len(messages), many, refused, laps.decode, laps.score, laps.encode))
        outcomes, taught = _since(learning, known)
        if self._pipeline.label_field is not None and taught:
            outcomes = {By.LABEL.value: taught}  # which came with its event
        return outputs._replace(
            tally=Tally(
                (topic, _partition(messages[0])),
                many,
                refused,
                outcomes,
                taught,
                _here(scored.effects.alerts, memory),
                written(messages, scored.places),
                None if scored.last is None else self._time(scored.last),
                scored.effects.scores,
                scored.predictions[-1] if scored.predictions else None,
                letters(messages, refused),
                applied,
                self._begun,
            )
        )

    def _looked(self, messages: list[Message], outputs: Outputs, memory: Memory) -> Outputs:
        """Let the alerts of the whole stream go on in traces of the events that are behind them."""
        assert self._traces is not None
        assert self.monitoring is not None
        assert outputs.tally is not None
        self._traces.looked_at(_headers(messages))
        if not self.monitoring.told:
            return outputs
        spans = self._traces.alerted(self.monitoring.told, memory.place, self._traces.named)
        headers = map(spans.headers, range(len(self.monitoring.told)))
        alerts = self._config.topic_alerts
        others = [one._replace(headers=next(headers)) if one.topic == alerts else one for one in outputs.others]
        return outputs._replace(others=others, size=_size(others), tally=outputs.tally._replace(spans=[spans]))

    def _obey(self, memory: Memory) -> News | None:
        """Do what was ordered because of alerts, before the next event is scored; return what that was."""
        news = None if self._orders is None else self._orders.news(memory)
        if news is not None:
            assert memory.state.learning is not None
            memory.state.learning.obey(news.plain())
        return news

    def _applied(
        self, news: News | None, memory: Memory, messages: list[Message], others: list[Output]
    ) -> Sequence[Order]:
        """Tell what was done because of alerts, and from which event on."""
        if news is None or self._orders is None:
            return ()
        applied = self._orders.applied(news.orders, memory, _first(messages, 0))
        others += self._orders.outputs(applied)
        return applied

    def _aside(self, messages: list[Message], memory: Memory, topic: str, step: Callable[[Writes], Outputs]) -> Outputs:
        """Have a step counted that scores nothing; ``step`` is given what makes its dead letters."""
        rejections: list[Rejection] = []

        def letter(message: Message, rejection: Rejection) -> Output:
            rejections.append(rejection)
            return self._dead_letter(message, rejection)

        self._laps.begin()
        outputs = step(letter)
        took = self._laps.lap()
        self.rejected += len(rejections)
        if messages:
            self._telemetry.stepped(Step(topic, len(messages), 0, rejections, 0.0, took, 0.0))
        return outputs._replace(tally=Tally((topic, memory.place[1]), 0, rejections))

    def _learn(self, messages: list[Message], memory: Memory, next_offset: int, topic: str) -> Outputs:
        """Return what is to be published for these labels."""
        laps = self._laps
        laps.begin()
        learning = memory.state.learning
        before = _known(learning)
        labels, rejections = self._label_codec.decode([message.value() for message in messages])
        kept = list(range(len(messages)))
        if rejections:
            kept = _without(kept, {one.at for one in rejections})
        ahead = self._ahead(labels, kept, messages, self._label_time) if self._ahead_max and labels else []
        if ahead:
            rejections += [one._replace(at=kept[one.at]) for one in ahead]
            places = {one.at for one in ahead}
            labels, kept = _without(labels, places), _without(kept, places)
        wrote = _wrote(labels, kept, messages, self._label_time)
        if labels:
            memory.label_at = max(memory.label_at, *map(self._label_time, labels))
            memory.label_wrote = max(memory.label_wrote, float(wrote.max()))
        if self._traces is not None and messages:
            ids = [getattr(label, self._label_id) for label in labels]
            self._spans = self._traces.labels(messages, kept, ids, _headers(messages))
            self._begun.append(self._spans)
        laps.decode = laps.lap()
        effects = self._pipeline.learn(labels, memory.state, wrote)
        laps.score = laps.lap()
        rejections += [one._replace(at=kept[one.at]) for one in effects.rejections]
        others = [self._dead_letter(messages[one.at], one) for one in sorted(rejections)]
        others += memory.keep(effects.change, next_offset, _first(messages, next_offset), topic)
        others += self.reports(memory)
        others += self._lessons(effects, memory)
        self.labelled += len(labels)
        self.rejected += len(rejections)
        outputs = self._told(effects, others, memory)
        laps.encode = laps.lap()
        if messages:
            self._telemetry.stepped(Step(topic, len(messages), 0, rejections, laps.decode, laps.score, laps.encode))
        outcomes, taught = _since(learning, before)
        place = topic, memory.place[1]
        told = letters(messages, rejections)
        alerts = _here(effects.alerts, memory)
        tally = Tally(place, 0, rejections, outcomes, taught, alerts, letters=told)
        if self._spans is not None:
            self._spans.refused(rejections)
            self._spans.stepped({"decoded": laps.decode, "learned": laps.score, "encoded": laps.encode})
        return outputs._replace(tally=tally._replace(spans=self._begun))

    def tick(self, memory: Memory, wall: float, event: float, *, quiet: bool = True) -> Outputs:
        """Return what is to be published now that it is so late."""
        memory.whole = False
        self._spans, self._begun = None, []
        before = _known(memory.state.learning)
        effects = self._pipeline.tick(memory.state, wall=wall, event=event, quiet=quiet)
        others = memory.keep_tick(effects.change)
        outcomes, taught = _since(memory.state.learning, before)
        others += [*self.reports(memory), *self._lessons(effects, memory), *self._slices(effects, memory)]
        outputs = self._told(effects, others, memory)
        alerts = _here(effects.alerts, memory)
        tally = Tally(memory.place, outcomes=outcomes, taught=taught, alerts=alerts, spans=self._begun)
        return outputs._replace(tally=tally)

    def _lessons(self, effects: Effects, memory: Memory) -> list[Output]:
        return [] if self.shared is None else self.shared.lessons(effects.lessons, memory)

    def _slices(self, effects: Effects, memory: Memory) -> list[Output]:
        if self.monitoring is None:
            return []
        said = self.monitoring.slices(effects.slices, memory)
        if self._traces is None or not said:
            return said
        named = self._traces.exemplars(memory.place[1], [one.number for one in effects.slices])
        return [one._replace(headers=headers) for one, headers in zip(said, named, strict=True)]

    def idle(self, memory: Memory) -> None:
        """Say of a partition that was read to its end that nothing of it is open."""
        if self.monitoring is not None:
            self.monitoring.idle(memory)

    async def between_steps(self, look: Callable[[], None], seconds_max: float) -> bool:
        """Let somebody look at what is remembered while no step changes it; False where a step takes too long."""
        if not self.stepping:  # and none begins while this runs, because it is the event loop that begins them
            look()
            return True
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._looks.append((look, done))
        try:
            await asyncio.wait_for(done, seconds_max)
        except TimeoutError:
            return False
        return True

    def rest(self) -> None:
        """Let those look who wait for it: a step has ended, and the next has not begun."""
        while self._looks:
            look, done = self._looks.popleft()
            if not done.done():  # else nobody waits any more
                try:
                    look()
                except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                    done.set_exception(error)
                else:
                    done.set_result(None)

    def reports(self, memory: Memory) -> list[Output]:
        """Return how good the models have been, if there is news of that and the last time was a while ago."""
        learning, now = memory.state.learning, time.monotonic()
        if learning is None or learning.taught == memory.reported or now - memory.reported_at < REPORT_SECONDS:
            return []
        memory.reported, memory.reported_at = learning.taught, now
        reports = self._pipeline.quality(memory.state, memory.place[1])
        return [Output(self._config.topic_quality, one.id, encode(one)) for one in reports]

    def _alerts(self, effects: Effects, memory: Memory) -> list[Output]:
        """Return alerts as they are published."""
        for alert in effects.alerts:
            log.warning("%s[%d]: %s", *memory.place, alert.text)
        topic, alerts = self._config.topic_alerts, _here(effects.alerts, memory)
        if self._traces is None or not alerts:
            return [Output(topic, one.id, encode(one)) for one in alerts]
        spans = self._traces.alerted(alerts, memory.place, [] if self._spans is None else self._spans.named)
        self._begun.append(spans)
        return [Output(topic, one.id, encode(one), spans.headers(at)) for at, one in enumerate(alerts)]

    def _told(self, effects: Effects, others: list[Output], memory: Memory) -> Outputs:
        """Put outcomes into columns."""
        topic, key = self._config.topic_outcomes, attrgetter(self._pipeline.wire.key)
        values = encode_all(effects.outcomes)
        keys = [str(key(one)) for one in effects.outcomes]
        others = [*others, *self._alerts(effects, memory)]
        headers = None if self._traces is None else list(map(self._going_on, effects.outcomes))
        if headers is not None and not any(headers):
            headers = None
        return Outputs(topic, keys, values, headers, others, sum(map(len, values)) + _size(others))

    def _outcome(self, outcome: Any) -> Output:
        headers = None if self._traces is None else self._going_on(outcome)
        return Output(self._config.topic_outcomes, str(self._key(outcome)), encode(outcome), headers)

    def _going_on(self, outcome: Any) -> list[Header] | None:
        """Return the headers of what became known of an event: where its trace has come to."""
        assert self._traces is not None
        made = self._traces.of(getattr(outcome, self._pipeline.wire.id))
        return None if made is None else [(TRACEPARENT, made)]

    def score(self, messages: list[Message], state: State, seen: list[Seen] | None = None) -> Scored:
        """Return a prediction or a rejection for each of these records, and let ``state`` take them in."""
        effects, kept, rejections, last = self._stepped(messages, state, seen)
        self._laps.score = self._laps.lap()
        predictions, values = effects.predictions, encode_all(effects.predictions)
        assert len(values) == len(kept), "every event has a prediction or a reason"
        spans = self._spans
        headers = _headers([messages[at] for at in kept]) if spans is None else spans.headers_of(kept)
        outputs, large = self._publish(headers, predictions, values)
        if large:
            rejections += [one._replace(at=kept[one.at]) for one in large]
            out = {one.at for one in large}
            kept, predictions = _without(kept, out), _without(predictions, out)
        return Scored(kept, predictions, outputs, sorted(rejections), effects, last)

    def remember(self, messages: list[Message], state: State) -> None:
        """Let ``state`` take these records in, as scoring them would."""
        self._stepped(messages, state)

    def _stepped(
        self, messages: list[Message], state: State, seen: list[Seen] | None = None
    ) -> tuple[Effects, list[int], list[Rejection], Any]:
        """Decode and step; return also which records have a prediction, why others have none, and the last event."""
        events, rejections = self._codec.decode([message.value() for message in messages])
        kept = list(range(len(messages)))  # where in the batch each event comes from
        if rejections:
            kept = _without(kept, {one.at for one in rejections})
        keyless = [place for place, at in enumerate(kept) if messages[at].key() is None]
        if keyless:
            rejections += [Rejection(kept[place], Reason.KEY_MISSING, _NO_KEY) for place in keyless]
            events, kept = _without(events, set(keyless)), _without(kept, set(keyless))
        if self._ahead_max and events:
            ahead = self._ahead(events, kept, messages, self._time)
            if ahead:
                rejections += [one._replace(at=kept[one.at]) for one in ahead]
                places = {one.at for one in ahead}
                events, kept = _without(events, places), _without(kept, places)
        asked = self._pipeline.labels is not None or self._pipeline.watch is not None
        wrote = _wrote(events, kept, messages, self._time) if asked else None
        self._laps.decode = self._laps.lap()
        given = (events, state, wrote) if seen is None else (events, state, wrote, seen)
        effects = self._pipeline.step(*given)
        if effects.rejections:
            rejections += [one._replace(at=kept[one.at]) for one in effects.rejections]
            kept = _without(kept, {one.at for one in effects.rejections})
        return effects, kept, rejections, events[-1] if events else None

    def _ahead(
        self, events: list[Any], kept: list[int], messages: list[Message], time_of: Callable[[Any], float]
    ) -> list[Rejection]:
        """Find the events whose time lies too far ahead of when their record was written."""
        earliest = min([milliseconds for _, milliseconds in map(_STAMP, messages)])  # zero at most, where one has none
        # As nearly always: not even the latest time is too far ahead of the earliest record.
        if min(max(map(time_of, events)), FAR) - earliest / 1_000 <= self._ahead_max:
            return []
        found = []
        for place, (event_at, at) in enumerate(zip(map(time_of, events), kept, strict=True)):
            # The record's own clock says what is too far: it is in the log, so a replay finds the same.
            kind, milliseconds = messages[at].timestamp()
            ahead = min(event_at, FAR) - milliseconds / 1_000
            if ahead > self._ahead_max and kind != TIMESTAMP_NOT_AVAILABLE:
                text = (
                    f"the event's time is {event_at}, {ahead:.0f} s ahead of its record's; allowed are "
                    f"event_ahead_max_ms = {self._config.event_ahead_max_ms}. Is it in milliseconds?"
                )
                found.append(Rejection(place, Reason.TIME_AHEAD, text))
        return found

    def _publish(
        self, headers: list[list[Header] | None], predictions: list[Any], values: list[bytes]
    ) -> tuple[Outputs, list[Rejection]]:
        """Put predictions into columns, except those that are too large for their topic."""
        topic = self._config.topic_predictions
        keys = list(map(str, map(self._key, predictions)))
        bytes_max = self._bytes_max[topic]
        if any(headers):
            headers = [without_reply_headers(given) if given else None for given in headers]
        # A character has four bytes at the most, so this is on the safe side without looking at each.
        elif max(map(len, values), default=0) + 4 * max(map(len, keys), default=0) <= bytes_max:
            return Outputs(topic, keys, values, None, [], sum(map(len, values))), []
        large = []
        sizes = [Output(topic, *parts).size for parts in zip(keys, values, headers, strict=True)]
        for at, size in enumerate(sizes):
            if size > bytes_max:
                text = f"the prediction has {size} bytes with its key and headers; topic {topic} takes {bytes_max}"
                large.append(Rejection(at, Reason.OUTPUT_TOO_LARGE, text))
        if large:
            out = {one.at for one in large}
            keys, values, headers, sizes = (_without(column, out) for column in (keys, values, headers, sizes))
        return Outputs(topic, keys, values, headers if any(headers) else None, [], sum(sizes)), large

    def _dead_letter(self, message: Message, rejection: Rejection) -> Output:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert number is not None
        assert offset is not None
        ours = dead_letter.headers(
            rejection,
            topic=topic,
            partition=number,
            offset=offset,
            pipeline=self._pipeline.name,
            version=self._pipeline.version,
        )
        given = _headers([message])[0] if self._spans is None else self._spans.headers(rejection.at)
        letter = Output(
            self._config.topic_dead_letters,
            message.key(),
            message.value(),
            dead_letter.together(given or [], ours),
        )
        return _fitting(letter, self._bytes_max[letter.topic], ours)


def letters(messages: list[Message], rejections: list[Rejection]) -> list[Letter]:
    """Return the last of these rejections, for whoever looks at the page."""
    told = []
    for one in rejections[-NEWEST_COUNT:]:
        topic, number, offset = messages[one.at].topic(), messages[one.at].partition(), messages[one.at].offset()
        text = one.message[:LETTER_CHARACTERS_MAX]
        told.append(Letter(topic or "", number or 0, offset or 0, one.reason.value, text))
    return told


def _known(learning: Learning | None) -> tuple[dict[str, int], int]:
    """Return what became of labels so far, and how many taught."""
    if learning is None:
        return {}, 0
    return ({} if learning.waiting is None else dict(learning.waiting.counts)), learning.taught


def _since(learning: Learning | None, before: tuple[dict[str, int], int]) -> tuple[dict[str, int], int]:
    """Return what became of labels since, and how many taught."""
    if learning is None:
        return {}, 0
    counts, taught = before
    return ({} if learning.waiting is None else grown(counts, learning.waiting.counts)), learning.taught - taught


def _here(alerts: Sequence[Alert], memory: Memory) -> list[Alert]:
    """Return alerts as subscribers know them: what is said of one partition names it."""
    number = memory.place[1]
    return [msgspec.structs.replace(one, id=f"{one.id}-{number}", slice=f"partition={number}") for one in alerts]


def _partition(message: Message) -> int:
    number = message.partition()
    assert number is not None
    return number


_STAMP = methodcaller("timestamp")
_NO_KEY = "the record has no key, and the key decides which partition knows its history"


def _first(messages: list[Message], next_offset: int) -> int:
    first = messages[0].offset() if messages else next_offset
    assert first is not None
    return first


def _wrote(
    events: list[Any], kept: list[int], messages: list[Message], time_of: Callable[[Any], float]
) -> NDArray[np.float64]:
    """Return when each event's record was written; where nobody noted that, when the event was."""
    made = np.fromiter(map(time_of, events), np.float64, len(events))
    stamps = [messages[at].timestamp() for at in kept]
    for place, (kind, milliseconds) in enumerate(stamps):
        if kind != TIMESTAMP_NOT_AVAILABLE:
            made[place] = milliseconds / 1_000
    return made


def _without(items: list[Any], places: set[int]) -> list[Any]:
    return [item for place, item in enumerate(items) if place not in places]


def _headers(messages: list[Message]) -> list[list[Header] | None]:
    """Return each record's headers; a name that is not text makes a record's headers unreadable, not the batch."""
    try:
        return cast("list[list[Header] | None]", [message.headers() for message in messages])
    except (UnicodeDecodeError, SystemError):  # the client returns with the error still pending
        return [clients.headers_of(message) for message in messages]


def _fitting(letter: Output, bytes_max: int, ours: list[Header]) -> Output:
    """Cut the letter down to what its topic takes: it must arrive. The value goes first, then headers, then the key."""
    if letter.size <= bytes_max:
        return letter
    told = (f"{dead_letter.OURS}cut.from.bytes", str(letter.size).encode())
    letter = letter._replace(headers=[*(letter.headers or []), told])
    if letter.value:
        letter = letter._replace(value=letter.value[: max(0, len(letter.value) - (letter.size - bytes_max))])
    if letter.size > bytes_max:
        letter = letter._replace(headers=[*ours, told])
    if letter.size > bytes_max:
        key = letter.key if isinstance(letter.key, bytes) else b""
        letter = letter._replace(key=key[: max(0, len(key) - (letter.size - bytes_max))])
    return letter


def _size(outputs: list[Output]) -> int:
    return sum(output.size for output in outputs)


def _parts(batch: RecordBatch, count_max: Callable[[], int]) -> Iterator[tuple[list[Message], Batch]]:
    """Cut what Faust hands over at once into steps: few messages cost Faust little, small steps stay in the caches."""
    messages, after = batch.messages, batch.after
    while True:
        step = messages[: count_max()]
        del messages[: len(step)]
        last = step[-1].offset() if messages else None
        next_offset = batch.next_offset if last is None else last + 1
        yield step, Batch(batch.place, after, next_offset, batch.epoch)
        if not messages:
            return
        after = next_offset


class Events(Protocol):
    """The part of ``faust.Stream`` that the agent uses."""

    def __aiter__(self) -> AsyncIterator[RecordBatch]: ...


async def score_events(
    stream: Events,
    scorer: Scorer,
    committer: Committer,
    memories: Memories,
    *,
    drained: Callable[[], bool],
    fail: Callable[[BaseException], Awaitable[None]],
) -> None:
    """Score batches until the stream ends: step, carry out, commit when it is time.

    While a commit is under way the steps of the next batch go on; they are carried out after the commit.
    An exception never leaves this loop: Faust would acknowledge the batch and start the agent anew, and
    the batch would be lost. It ends the worker instead; what was not carried out is not committed.
    """
    slow = False
    try:
        async for batch in stream:
            scorer.busy = True
            try:
                async with scorer.turn:
                    slow = await _score(batch, scorer, committer, memories, slow=slow)
            finally:
                # Whoever stops the worker waits for a batch that is being scored, and this one never ends.
                scorer.busy = False
            nothing_waits = drained()
            if committer.due(drained=nothing_waits):
                committer.commit_soon()
            elif nothing_waits:
                committer.hurry()
    except Exception as error:
        log.exception("a batch could not be carried out; the worker ends, and what was not committed is scored again")
        await fail(error)


async def _score(batch: RecordBatch, scorer: Scorer, committer: Committer, memories: Memories, *, slow: bool) -> bool:
    """Score one batch, and carry it out; return whether the last step was slow."""
    shared = scorer.shared
    if shared is not None:
        memories = shared.memories_of(batch.place[0], memories)
    if scorer.monitoring is not None:
        memories = scorer.monitoring.memories_of(batch.place[0], memories)
    memory = memories.ready(batch.place, batch.after, batch.epoch)
    if memory is None:
        memory = await memories.restore(batch.place, batch.after, batch.epoch)
        if memory is None:
            return slow
        follows = memory.follows.get(batch.place[0])
        if follows != batch.after:
            log.info("%s: what follows %s was committed already, up to %s", batch.place, batch.after, follows)
            committer.start_over()
            return slow
    if shared is not None and batch.place[0] != shared.topic:
        await shared.ready_for(memory)
    ahead: deque[tuple[Batch, Outputs]] = deque()  # stepped, and not carried out because a commit is under way
    kept = True
    for messages, part in _parts(batch, lambda: committer.step_count_max):
        began = time.monotonic()
        begins = memory.offset
        given = scorer, messages, memory, part.next_offset, batch.place[0]
        scorer.stepping = True
        try:
            outputs = await asyncio.to_thread(_step, *given) if slow else _step(*given)
        finally:
            scorer.stepping = False
        scorer.rest()
        ahead.append((part._replace(note=memory.note, memory=memory.place, begins=begins, ends=memory.offset), outputs))
        slow = time.monotonic() - began > SLOW_STEP_SECONDS
        await asyncio.sleep(0)  # timers and pages get their turn, and a commit that is done is heard of
        while kept and ahead and (slow or not committer.holding or part.next_offset == batch.next_offset):
            kept = await committer.carry_out(*ahead.popleft())
        if not kept:
            break
        # Whatever is open while the next step runs has to wait for its end, however small the step is: it would
        # time out again, and again after that.
        if slow or committer.careful:
            committer.commit_soon()
    return slow


async def tick(
    scorer: Scorer, committer: Committer, memories: Memories, poller: Poller, *, drained: Callable[[], bool]
) -> None:
    """Tell every partition what time it is, where that changes something.

    A label that lies in the log and was not read yet must not be missed, so a partition whose labels are not all
    read is only as late as the newest that was.
    """
    events, *labels = memories.topics
    for topic, number in list(poller.partitions):
        if topic != events or any((name, number) not in poller.partitions for name in labels):
            continue
        async with scorer.turn:
            epoch = poller.epoch
            memory = memories.there(number, epoch) or await memories.restore((events, number), None, epoch)
            mine = [poller.partitions.get((name, number)) for name in memories.topics]
            if memory is None or None in mine:
                continue
            wall, event = time.time(), memory.state.clock
            quiet, *heard = [one is not None and one.drained for one in mine]
            if not all(heard):
                wall, event = min(wall, memory.label_wrote), min(event, memory.label_at)
            if quiet:
                scorer.idle(memory)
            place = next(((name, number) for name in memories.topics if name in memory.offsets), None)
            if place is None:
                continue
            begins = memory.offset
            if memory.state.due(wall, event, quiet=quiet):
                outputs = scorer.tick(memory, wall, event, quiet=quiet)
            elif reports := scorer.reports(memory):
                outputs = Outputs("", [], [], None, reports, _size(reports))
            else:
                continue
            next_offset, after = memory.offsets[place[0]], memory.follows.get(place[0])
            moments = memory.place, begins, memory.offset
            await committer.carry_out(Batch(place, after, next_offset, epoch, memory.note, *moments), outputs)
        if committer.due(drained=drained()):
            committer.commit_soon()


def _step(scorer: Scorer, messages: list[Message], memory: Memory, next_offset: int, topic: str) -> Outputs:
    """Step; what only the interpreter and the event loop may raise becomes an error like any other.

    A model that calls ``sys.exit`` would end the worker as if all were well, and one that raises
    ``CancelledError`` would look like Faust, which cancels agents in a rebalance, and be scored for ever.
    """
    try:
        return scorer.step(messages, memory, next_offset, topic)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"a step of the pipeline raised {type(error).__name__}: {error}") from error
