"""What a worker counts, a batch at a time, and what it looks up when somebody asks."""

import asyncio
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import confluent_kafka
import numpy as np

import headrace
from headrace.models.features import Floats
from headrace.models.pipeline import Pipeline
from headrace.models.quality import Quality
from headrace.models.state import State
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.dead_letter import Rejection
from headrace.schemas.metrics import NUMBERS
from headrace.schemas.order import Order
from headrace.stream.poller import Place
from headrace.stream.registry import Labels, Registry
from headrace.stream.traces import Spans

T = TypeVar("T")

BetweenSteps = Callable[[Callable[[], None]], Awaitable[bool]]

WRITTEN_COUNT = 8  # records of a step of which it is looked up when they were written
QUALITY_SECONDS_MIN = 5.0  # from one look at the quality of models to the next
SCORED_COUNT = 32  # events of a step of which the scores are looked at
NEWEST_COUNT = 12  # predictions and dead letters that are kept for whoever looks


class Laps:
    """How long each part of a step takes.

    A step is under way once at a time, so there is one of these per scorer, and nothing is made for each step.
    """

    __slots__ = ("_last", "decode", "encode", "score")

    def __init__(self) -> None:
        self.decode = self.score = self.encode = self._last = 0.0

    def begin(self) -> None:
        """Begin with a step."""
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Return how long the part took that ends now."""
        now = time.perf_counter()
        took, self._last = now - self._last, now
        return took


class Step(NamedTuple):
    """What a step did, whatever becomes of it."""

    topic: str
    records: int
    scored: int
    rejections: Sequence[Rejection]
    decode: float  # seconds
    score: float
    encode: float


class Letter(NamedTuple):
    """A record that was not scored: where it is, why, and what a person is told."""

    topic: str
    partition: int
    offset: int
    reason: str
    message: str


class Tally(NamedTuple):
    """What is to be counted when a step's outputs are published; of a step that is thrown away nothing is."""

    place: Place
    predictions: int = 0
    rejections: Sequence[Rejection] = ()
    outcomes: Mapping[str, int] | None = None  # of labels
    taught: int = 0
    alerts: Sequence[Alert] = ()
    written: Sequence[int] = ()  # when some of the records were written, in milliseconds; negative if nobody noted it
    event_at: float | None = None  # the time of the last event
    scores: Sequence[tuple[str, Floats]] = ()  # by model
    newest: Any = None  # the last prediction
    letters: Sequence[Letter] = ()  # the last dead letters
    orders: Sequence[Order] = ()  # given because of alerts, or followed
    spans: Sequence[Spans] = ()  # where events are traced


class Telemetry:
    """The metrics of one worker.

    A step is counted twice: what it did, when it was done (``stepped``), and what came of it, when readers have it.
    Between the two its tally waits here (``sent``) for the commit that publishes it (``published``) or the
    abort that throws it away (``dropped``), so that counters of predictions agree with the topic, however often a
    step was done.
    """

    def __init__(self, kind: str = "binary") -> None:
        self.registry = Registry({} if kind == "binary" else {"headrace_prediction_score": NUMBERS})
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Tally]] = deque()
        self._carried_out = 0
        self._steps: deque[Step] = deque()
        self._sent: deque[float] = deque()
        self._quality_due = 0.0
        self._open: dict[str, tuple[str, str]] = {}  # alerts, by id: their kind and severity
        self.predictions: deque[tuple[float, Any]] = deque(maxlen=NEWEST_COUNT)  # and when they were published
        self.letters: deque[tuple[float, Letter]] = deque(maxlen=NEWEST_COUNT)

    def describe(self, pipeline: Pipeline) -> None:
        """Say what runs here."""
        versions = headrace.__version__, platform.python_version(), confluent_kafka.libversion()[0]
        self.registry.set("headrace_build_info", 1, *versions)
        models = map(_named, (pipeline.static, pipeline.online))
        self.registry.set("headrace_model_info", 1, pipeline.name, pipeline.version, pipeline.kind, *models)

    # What happens to a step.

    def stepped(self, step: Step) -> None:
        """Note what a step did; it is counted with many others."""
        self._steps.append(step)

    def sent(self, tally: Tally | None, seconds: float) -> None:
        """Keep what was carried out until it is published, and note how long that took."""
        self._sent.append(seconds)
        if tally is not None:
            for spans in tally.spans:
                spans.sent()
            with self._lock:
                self._carried_out += 1
                self._waiting.append((self._carried_out, tally))

    @property
    def until(self) -> int:
        """What was carried out by now, for ``published``."""
        return self._carried_out

    def published(self, until: int | None = None) -> None:
        """Count what was carried out, all of it or ``until`` then: readers have it now."""
        now = time.time()
        with self._lock:
            tallies = []
            while self._waiting and (until is None or self._waiting[0][0] <= until):
                tallies.append(self._waiting.popleft()[1])
        if tallies:
            self._count(tallies, now)
        for tally in tallies:
            for spans in tally.spans:
                spans.published()
        self.count_steps()

    def dropped(self) -> None:
        """Forget what was carried out and not published."""
        with self._lock:
            lost = [tally for _, tally in self._waiting if tally.spans]
            self._waiting.clear()
        for tally in lost:
            for spans in tally.spans:
                spans.lost()

    def count_steps(self) -> None:
        """Count the steps that were done since."""
        registry = self.registry
        steps = _taken(self._steps)
        if sent := _taken(self._sent):
            registry.observe_all("headrace_step_seconds", np.array(sent), "send")
        if not steps:
            return
        topics, counts, scored, rejections, *laps = zip(*steps, strict=True)
        registry.observe_all("headrace_batch_events", np.array(counts, np.float64))
        consumed: Counter[str] = Counter()
        for topic, many in zip(topics, counts, strict=True):
            consumed[topic] += many
        for topic, many in consumed.items():
            registry.add("headrace_events_consumed_total", many, topic)
        registry.add("headrace_events_scored_total", sum(scored))
        for reason, many in _reasons(rejections):
            registry.add("headrace_events_rejected_total", many, reason)
        for stage, seconds in zip(("decode", "score", "encode"), laps, strict=True):
            registry.observe_all("headrace_step_seconds", np.array(seconds), stage)

    def _count(self, tallies: Sequence[Tally], now: float) -> None:
        registry = self.registry
        registry.add("headrace_predictions_total", sum(tally.predictions for tally in tallies))
        for reason, many in _reasons([tally.rejections for tally in tallies]):
            registry.add("headrace_dead_letters_total", many, reason)
        written: dict[int, list[int]] = {}  # by for how many records each stands
        scores: dict[tuple[str, int], list[Floats]] = {}
        outcomes: Counter[str] = Counter()
        newest: dict[Place, float] = {}
        for tally in tallies:
            if tally.written:
                # The last stands for what is left, so that all together stand for as many as there are.
                stride = _stride(tally.predictions, WRITTEN_COUNT)
                *first, last = tally.written
                written.setdefault(stride, []).extend(first)
                written.setdefault(tally.predictions - stride * len(first), []).append(last)
            for model, some in tally.scores:
                stride = _stride(len(some), SCORED_COUNT)
                looked_at = some[::stride]
                scores.setdefault((model, stride), []).append(looked_at[:-1])
                scores.setdefault((model, len(some) - stride * (len(looked_at) - 1)), []).append(looked_at[-1:])
            if tally.event_at is not None:
                newest[tally.place] = tally.event_at
            if tally.outcomes:
                outcomes.update(tally.outcomes)
            if tally.alerts:
                self._hear(tally.alerts)
            for order in tally.orders:
                registry.add("headrace_actions_total", 1, order.action.value, order.state.value)
            self.letters.extend((now, letter) for letter in tally.letters)
        self.predictions.extend((now, tally.newest) for tally in tallies[-NEWEST_COUNT:] if tally.newest is not None)
        for place, event_at in newest.items():
            registry.set("headrace_watermark_delay_seconds", now - event_at, *_labels(place))
        for each, stamps in written.items():
            at = np.array(stamps, np.float64) / 1_000
            registry.observe_all("headrace_event_latency_seconds", np.maximum(0.0, now - at[at >= 0]), each=each)
        for (model, each), parts in scores.items():
            registry.observe_all("headrace_prediction_score", np.concatenate(parts), model, each=each)
        for outcome, many in outcomes.items():
            registry.add("headrace_labels_total", many, outcome)
        registry.add("headrace_learner_taught_total", sum(tally.taught for tally in tallies))

    def _hear(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self.registry.add("headrace_alerts_total", 1, alert.kind, alert.severity.value, alert.state.value)
            if alert.state is AlertState.CLEARED:
                self._open.pop(alert.id, None)
            else:
                self._open[alert.id] = alert.kind, alert.severity.value
            # One that was cleared leaves a zero behind, which is what a rule looks for.
            counts = dict.fromkeys(self.registry.labels("headrace_alerts_open"), 0.0)
            self.registry.replace("headrace_alerts_open", {**counts, **Counter(self._open.values())})

    # What is looked up when somebody asks.

    def look_at(self, states: Mapping[int, State]) -> None:
        """Look at the states of the partitions that this worker has: no step may be under way meanwhile."""
        found: dict[str, dict[Labels, float]] = {name: {} for name in _OF_STATES}
        for number, state in states.items():
            for name, labels, value in _told(str(number), state):
                found[name][labels] = value
        for name, values in found.items():
            self.registry.replace(name, values)

    async def look_at_quality(self, states: Callable[[], Mapping[int, State]], between_steps: BetweenSteps) -> None:
        """Put together how good each model has been in all partitions: one model of one partition at a time.

        All of it at once would hold up the event loop for milliseconds per model and partition. It takes no more
        than a hundredth of the time: after a look it is told as it was for a hundred times as long as that took.
        """
        if time.monotonic() < self._quality_due:
            return
        self._quality_due = float("inf")  # a look is under way
        spent = 0.0
        found: dict[Labels, float] = {}
        try:
            for name in {name: None for state in states().values() for name in _judges(state)}:
                merged: Quality | None = None
                for number in sorted(states()):

                    def look(number: int = number, name: str = name, before: Quality | None = merged) -> None:
                        nonlocal merged, spent
                        began = time.perf_counter()
                        judge = _judges(states()[number]).get(name) if number in states() else None
                        if judge is not None and judge.at is not None:
                            merged = judge.merged(before or Quality(judge.kind, window=judge.window_s))
                        spent += time.perf_counter() - began

                    if not await between_steps(look):
                        return  # a step takes long
                    await asyncio.sleep(0)
                began = time.perf_counter()
                for window, numbers in (merged.report() if merged is not None else {}).items():
                    model = "combined" if name == "score" else name
                    found.update({(model, one, window): value for one, value in numbers.items() if value is not None})
                spent += time.perf_counter() - began
            self.registry.replace("headrace_quality", found)
        finally:
            self._quality_due = time.monotonic() + max(QUALITY_SECONDS_MIN, 100 * spent)

    def look_at_partitions(
        self, lag: Mapping[Place, int], oldest: Mapping[Place, float], *, stalled: int, buffered: int, now: float
    ) -> None:
        """Say how partitions stand: how many records are left of each, and since when its oldest waits."""
        registry = self.registry
        registry.set("headrace_partitions_assigned", len(lag))
        registry.set("headrace_partitions_stalled", stalled)
        registry.set("headrace_buffered_records", buffered)
        left = {_labels(place): float(max(0, many)) for place, many in lag.items()}
        registry.replace("headrace_consumer_lag_records", left)
        ages = {_labels(place): max(0.0, now - oldest[place]) if place in oldest else 0.0 for place in lag}
        registry.replace("headrace_consumer_lag_seconds", ages)
        registry.keep_only("headrace_watermark_delay_seconds", ages)


_OF_STATES = (
    "headrace_state_keys",
    "headrace_state_bytes",
    "headrace_events_awaiting_labels",
    "headrace_labels_awaiting_events",
    "headrace_breaker_open",
)


def _told(number: str, state: State) -> Iterator[tuple[str, Labels, float]]:
    for fields, table in state.tables.items():
        yield "headrace_state_keys", (number, ",".join(fields)), len(table)
        yield "headrace_state_bytes", (number, ",".join(fields)), table.bytes
    if state.breaker is not None:
        yield "headrace_breaker_open", (number,), int(state.breaker.is_open)
    if state.learning is not None and (waiting := state.learning.waiting) is not None:
        yield "headrace_state_keys", (number, "(labels)"), len(waiting)
        yield "headrace_state_bytes", (number, "(labels)"), waiting.bytes
        yield "headrace_events_awaiting_labels", (number,), len(waiting)
        yield "headrace_labels_awaiting_events", (number,), waiting.early


def _judges(state: State) -> Mapping[str, Quality]:
    return {} if state.learning is None else state.learning.judges


def _named(model: Any) -> str:
    """Return what a model is, as the page writes it."""
    steps = getattr(model, "steps", None)  # of River's pipelines
    if isinstance(steps, Mapping):
        return " | ".join(type(one).__name__ for one in steps.values())
    return "" if model is None else type(model).__name__


def _labels(place: Place) -> Labels:
    return place[0], str(place[1])


def _reasons(rejections: Iterable[Sequence[Rejection]]) -> Iterable[tuple[str, int]]:
    return Counter(one.reason.value for some in rejections for one in some).items()


def _stride(count: int, looked_at: int) -> int:
    """Return for how many each one stands, where no more than so many are looked at.

    >>> _stride(16, 16), _stride(17, 16), _stride(500, 16), _stride(0, 16)
    (1, 2, 32, 1)
    """
    return max(1, -(-count // looked_at))


def _taken(some: deque[T]) -> list[T]:
    """Take all that is there, while other threads may add to it, or take from it as well."""
    taken: list[T] = []
    count = len(some)
    with suppress(IndexError):  # whoever asks for metrics takes what a commit would, on another thread
        while len(taken) < count:
            taken.append(some.popleft())
    return taken


def written(messages: Sequence[Any], kept: Sequence[int]) -> list[int]:
    """Return when some of these records were written, evenly spread.

    To look at each would cost more than all the rest of what is counted.
    """
    return [messages[at].timestamp()[1] for at in kept[:: _stride(len(kept), WRITTEN_COUNT)]]


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return what came to these counts.

    >>> grown({"label": 2}, {"label": 3, "early": 1, "late": 0})
    {'label': 1, 'early': 1}
    """
    return {name: many - before.get(name, 0) for name, many in after.items() if many != before.get(name, 0)}
