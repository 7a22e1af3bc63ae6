"""Spans of what happens to events, for OpenTelemetry: from the record that comes in to what is published of it.

A span is named after an event's record, is a child of the span in its ``traceparent`` header, and goes on in the same
header of what is published. It waits for the commit with what the step gave: published, it ends well; thrown away by an
abort, it ends with the error ``not committed``, and whoever scores the event again begins another. What was stepped and
never carried out leaves no span.

Nothing here is remembered with a partition, and no value of a record changes: headers are all that readers see of it.
Spans are exported by a thread of OpenTelemetry's, from a queue that is bounded. No field of an event is in a span.
"""

import logging
import math
import random
import threading
import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

import headrace
from headrace.models.pipeline import Pipeline
from headrace.schemas import trace as w3c
from headrace.schemas.alert import Alert
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header, Rejection
from headrace.schemas.errors import BadConfig
from headrace.schemas.trace import EXEMPLARS, EXEMPLARS_MAX, Traceparent
from headrace.stream.poller import Place

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link, Span, SpanContext

log = logging.getLogger("headrace.traces")

Headers = list[Header] | None

LINKS_MAX = 16  # of an alert, to traces of events
KNOWN_MAX = 10_000  # events whose trace is known, for when their labels come
RECENT_MAX = 64  # sampled events of a partition of which its slices may name some
QUEUE_MAX, EXPORT_MAX, EXPORT_MS = 4_096, 512, 1_000
REQUEST_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 2.0
FAR = 1e300  # a whole number may be too large to be a float
NOT_COMMITTED = "not committed"
# A collector that is away would fill the log; it is told once, by ours.
_QUIET = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
_LOW = (1 << 64) - 1


class Spans:
    """The spans of one step, by the place of their record in it, until it is known what becomes of the step."""

    __slots__ = ("_moments", "_spans", "given", "made")

    def __init__(self, given: Sequence[Headers]) -> None:
        self.given = given  # the headers of each record, as it came
        self.made: dict[int, bytes] = {}  # what goes into the header of what is published
        self._spans: dict[int, Span] = {}
        self._moments: list[tuple[str, int]] = []

    def add(self, at: int, span: "Span") -> bytes | None:
        """Keep a span; return what names it. It is none where the environment has switched OpenTelemetry off."""
        context = span.get_span_context()
        if not span.is_recording():
            return None
        self._spans[at] = span
        self.made[at] = bytes(Traceparent(context.trace_id, context.span_id, sampled=True))
        return self.made[at]

    def headers(self, at: int) -> Headers:
        """Return the headers with which what is made of a record goes out, its own ones first."""
        made = self.made.get(at)
        return self.given[at] if made is None else w3c.carrying(self.given[at], made)

    def headers_of(self, places: Sequence[int]) -> list[Headers]:
        """Return those of many records, in their order, of which few have a span."""
        headers = [self.given[at] for at in places]
        for index, at in self.among(places):
            headers[index] = self.headers(at)
        return headers

    def among(self, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield where each that has a span is among these places, and its place."""
        for at in self.made:
            index = bisect_left(places, at)
            if index < len(places) and places[index] == at:
                yield index, at

    @property
    def named(self) -> list[Traceparent]:
        """Return what names each."""
        return [one for one in map(w3c.parsed, self.made.values()) if one is not None]

    def stepped(self, laps: Mapping[str, float]) -> None:
        """Note when each part of the step ended, of which the last has just."""
        ended = time.time_ns()
        for name, took in reversed(list(laps.items())):
            self._moments.insert(0, (name, ended))
            ended -= int(took * 1e9)
        self._moments.insert(0, ("taken", ended))

    def refused(self, rejections: Iterable[Rejection]) -> None:
        """Note which records became dead letters, and the reason; what else is said of them may hold what they hold."""
        if not self._spans:
            return
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - there is a span, so it is there

        for one in rejections:
            if (span := self._spans.get(one.at)) is not None:
                span.set_attribute("error.type", one.reason.value)
                span.set_status(Status(StatusCode.ERROR, one.reason.value))

    def sent(self) -> None:
        """Note that what was made of them is on its way."""
        self._moments.append(("sent", time.time_ns()))

    def published(self) -> None:
        """End well: readers have what was made of them."""
        self._end()

    def lost(self) -> None:
        """End with an error: what was made of them was thrown away."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        for span in self._spans.values():
            span.set_attribute("error.type", NOT_COMMITTED)
            span.set_status(Status(StatusCode.ERROR, NOT_COMMITTED))
        self._end()

    def _end(self) -> None:
        now = time.time_ns()
        for span in self._spans.values():
            for name, at in self._moments:
                span.add_event(name, timestamp=at)
            span.end(now)
        self._spans = {}


class Traces:
    """Begins the spans of one worker, and has them exported."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        *,
        exporter: "SpanExporter | None" = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
        except ImportError as error:
            text = f"needs OpenTelemetry, which cannot be imported ({error}): pip install 'headrace[otel]'"
            raise BadConfig([f"traces = {config.traces}: {text}"]) from error
        self._share = config.traces_per_mille / 1_000
        self._bound = int(self._share * (1 << 64))
        self._draw = draw
        self._about = {
            "messaging.system": "kafka",
            "messaging.operation.name": "score",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": config.group or pipeline.name,
            "headrace.pipeline": pipeline.name,
            "headrace.version": pipeline.version,
        }
        self._id, self._time = pipeline.wire.id, pipeline.wire.time
        self._every = pipeline.watch.every_s if pipeline.watch is not None else 0.0
        self._known: OrderedDict[Hashable, bytes] = OrderedDict()
        self._recent: dict[int, deque[tuple[float, bytes]]] = {}
        self._named: deque[Traceparent] = deque(maxlen=LINKS_MAX)  # by slices that were looked at
        exporter = exporter or OTLPSpanExporter(_endpoint(config.traces), timeout=REQUEST_SECONDS_MAX)
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # What the environment says of the service counts more: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
        resource = Resource.create({"service.name": "headrace", "service.instance.id": config.instance})
        resource = resource.merge(OTELResourceDetector().detect())
        # We say what is sampled, by the header and the share; the end of the process waits for nobody.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _telling(exporter, config.traces),
                max_queue_size=QUEUE_MAX,
                schedule_delay_millis=EXPORT_MS,
                max_export_batch_size=EXPORT_MAX,
            )
        )
        self._tracer = self._provider.get_tracer("headrace", headrace.__version__)

    # Spans of records.

    def begin(self, messages: Sequence[Message], given: Sequence[Headers]) -> Spans:
        """Begin the spans of events that are to be scored, of which these are the headers as they came."""
        spans, draw, share = Spans(given), self._draw, self._share
        for at, headers in enumerate(given):
            parent = w3c.of(headers) if headers else None
            if draw() < share if parent is None else self._takes(parent):
                spans.add(at, self._record("headrace score", messages[at], parent))
        return spans

    def _takes(self, parent: Traceparent) -> bool:
        """Say whether a span is made in this trace: by its id, so that everybody with the same share takes the same."""
        return parent.sampled and parent.trace & _LOW < self._bound

    def labels(
        self, messages: Sequence[Message], kept: Sequence[int], ids: Sequence[Hashable], given: Sequence[Headers]
    ) -> Spans:
        """Begin the spans of labels that say in their header that they are traced, or whose event was."""
        spans = Spans(given)
        for at, identity in zip(kept, ids, strict=True):
            parent, event = w3c.of(given[at]), w3c.parsed(self._known.get(identity))
            if parent is None:
                parent = event
            elif not self._takes(parent):
                continue
            if parent is not None:
                links = [] if event is None or event is parent else [_link(event)]
                made = spans.add(at, self._record("headrace label", messages[at], parent, links))
                if made is not None:
                    self._remember(identity, made)
        return spans

    def scored(self, spans: Spans, places: Sequence[int], predictions: Sequence[Any], number: int) -> None:
        """Remember the traces of a step's predictions, for their labels and for the slices that they are in."""
        for index, at in spans.among(places):
            one, made = predictions[index], spans.made[at]
            self._remember(getattr(one, self._id), made)
            if self._every:
                recent = self._recent.setdefault(number, deque(maxlen=RECENT_MAX))
                recent.append((float(min(getattr(one, self._time), FAR)), made))

    def of(self, identity: Hashable) -> bytes | None:
        """Return where the trace of an event has come to, if it is known here: for what is said of it."""
        return self._known.get(identity)

    def _remember(self, identity: Hashable, made: bytes) -> None:
        self._known[identity] = made
        self._known.move_to_end(identity)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _record(self, name: str, message: Message, parent: Traceparent | None, links: Sequence["Link"] = ()) -> "Span":
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        kind, milliseconds = message.timestamp()
        # Whose clock is ahead of ours would begin after its end, and before 1970 there is no time.
        now = time.time_ns()
        began = now if kind == TIMESTAMP_NOT_AVAILABLE else max(0, min(now, milliseconds * 1_000_000))
        place = message.topic() or "", message.partition() or 0
        about = {**self._about, **_where(place), "messaging.kafka.offset": message.offset() or 0}
        return self._span(name, parent, kind=SpanKind.CONSUMER, attributes=about, links=links, start_time=began)

    def _span(self, name: str, parent: Traceparent | None, **given: Any) -> "Span":
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context  # noqa: PLC0415

        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(_context(parent)), context)
        return self._tracer.start_span(name, context, **given)

    # Slices, and what comes of them.

    def exemplars(self, number: int, slices: Sequence[int]) -> list[list[Header] | None]:
        """Return the headers of slices that are over: the traces of a few events in each."""
        recent = self._recent.get(number, ())
        found: list[list[Header] | None] = []
        for one in slices:
            within = (made for at, made in reversed(recent) if math.floor(at / self._every) == one)
            some = list(islice(within, EXEMPLARS_MAX))
            found.append([(EXEMPLARS, w3c.listed(some))] if some else None)
        return found

    def looked_at(self, given: Sequence[Headers]) -> None:
        """Note which traces are named by slices that are being looked at."""
        for headers in given:
            self._named.extend(reversed(w3c.exemplars(headers)))  # the newest last

    @property
    def named(self) -> list[Traceparent]:
        """Return what slices have named, the newest last."""
        return list(self._named)

    def alerted(self, alerts: Sequence[Alert], place: Place, causes: Sequence[Traceparent]) -> Spans:
        """Begin the spans of alerts: in the trace of the newest event behind them, linked to some of the others."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        begun, links = Spans([None] * len(alerts)), [_link(one) for one in causes[-LINKS_MAX:]]
        for at, alert in enumerate(alerts):
            about = {
                **self._about,
                **_where(place),
                # Not its id nor its slice, in which a value of a field may be.
                "headrace.alert.series": alert.series,
                "headrace.alert.kind": alert.kind,
                "headrace.alert.state": alert.state.value,
                "headrace.alert.severity": alert.severity.value,
            }
            parent = causes[-1] if causes else None
            begun.add(at, self._span("headrace alert", parent, kind=SpanKind.PRODUCER, attributes=about, links=links))
        return begun

    def close(self) -> None:
        """Export what is left, for as long as that may take."""
        closing = threading.Thread(target=self._provider.shutdown, name="headrace-traces-closing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS_MAX)


def _where(place: Place) -> dict[str, str]:
    return {"messaging.destination.name": place[0], "messaging.destination.partition.id": str(place[1])}


def _context(parent: Traceparent) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415

    return SpanContext(parent.trace, parent.span, is_remote=True, trace_flags=TraceFlags(int(parent.sampled)))


def _link(parent: Traceparent) -> "Link":
    from opentelemetry.trace import Link  # noqa: PLC0415

    return Link(_context(parent))


def _endpoint(url: str) -> str:
    """Return where traces go: what names a host alone means the path that collectors have.

    >>> _endpoint("http://127.0.0.1:4318"), _endpoint("https://otlp.example/in/v1/traces")
    ('http://127.0.0.1:4318/v1/traces', 'https://otlp.example/in/v1/traces')
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}/{path or 'v1/traces'}"


def _telling(exporter: "SpanExporter", url: str) -> "SpanExporter":
    """Return an exporter that says once that its collector is away, and once that it is back."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    class Telling(SpanExporter):
        away = False

        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            try:
                result = exporter.export(spans)
            except Exception as error:  # noqa: BLE001 - no exporter's failure is a worker's
                log.debug("exporting spans: %s", error)
                result = SpanExportResult.FAILURE
            if result != SpanExportResult.SUCCESS and not self.away:
                log.warning("traces = %s takes no spans; they are dropped until it does, and nothing waits for it", url)
            elif result == SpanExportResult.SUCCESS and self.away:
                log.info("traces = %s takes spans again", url)
            self.away = result != SpanExportResult.SUCCESS
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Telling()
