"""Traces go on through the headers of what is published, from an event to the alert it had a part in."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import pytest
from core.hooks import Hook, wait_until
from core.records import Record, config_of, fraud, transaction
from core.test_monitor import _stream
from core.test_watch import _pipeline
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from river import linear_model

from headrace import Event, Label, Linear, Pipeline, field
from headrace.schemas import trace as w3c
from headrace.schemas.codec import encode
from headrace.schemas.errors import BadConfig
from headrace.stream import traces as traces_module
from headrace.stream.agents import Scorer
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.driver import Driver
from headrace.stream.driver import Record as Piped
from headrace.stream.state import Memory
from headrace.stream.telemetry import Telemetry
from headrace.stream.traces import Traces

ROOT = Path(__file__).resolve().parents[2]
PLACE = ("transactions", 0)


def header(trace: int, *, sampled: bool = True, span: int = 7) -> bytes:
    return bytes(w3c.Traceparent(trace, span, sampled))


class Collector(Hook):
    """What OTLP over HTTP brings, decoded by its own protocol."""

    @property
    def requests(self) -> list[Any]:
        return [ExportTraceServiceRequest.FromString(got.body) for got in self.accepted]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Collector() as collector:
        yield collector


def _trace(headers: Any) -> int:
    found = w3c.of(headers)
    assert found is not None
    return found.trace


def _said(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
        b"\xff" * 55,
        b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + b"x" * 10_000,
    ],
)
def test_what_is_no_traceparent_is_ignored(value: bytes) -> None:
    assert w3c.parsed(value) is None
    assert w3c.of([("traceparent", value)]) is None


def test_a_traceparent_of_a_later_version_counts_as_far_as_it_is_known() -> None:
    found = w3c.parsed(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more")
    assert found is not None
    assert found.sampled
    assert bytes(found) == b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# From an event to an alert.


def test_an_event_its_prediction_and_the_alert_that_it_had_a_part_in_have_one_trace(collector: Collector) -> None:
    events = [*_stream(300, seed=1, per_second=20), *_stream(200, seed=2, begin=300, per_second=20, depth=1.5)]
    traced = {at: at // 100 + 1 for at in range(0, len(events), 100)}
    records = [
        # Those that their producer does not sample have no span, whatever the share is.
        Piped(encode(one), b"u", [("traceparent", header(traced.get(at, 999_999), sampled=at in traced))], 0, "visits")
        for at, one in enumerate(events)
    ]
    driver = Driver(_pipeline(), traces=collector.address, traces_per_mille=1_000, batch_count_max=500)
    driver.pipe_all(records)

    made = driver.published("predictions")
    assert len(made) == len(events)
    for at, one in enumerate(made):
        found = w3c.of(one.headers)
        assert found is not None
        assert (found.trace, found.sampled) == ((traced[at], True) if at in traced else (999_999, False))
        assert (found.span == 7) == (at not in traced), "a consumer goes on from our span where there is one"
    alerts = driver.published("alerts")
    assert alerts
    of_predictions = {_trace(made[at].headers): w3c.of(made[at].headers) for at in traced}
    for alert in alerts:
        assert _trace(alert.headers) in of_predictions

    wait_until(lambda: len(collector.spans) == len(traced) + len(alerts), 20.0)
    spans = {(one.name, one.span_id): one for one in collector.spans}
    for alert in alerts:
        found = w3c.of(alert.headers)
        assert found is not None
        span = spans["headrace alert", found.span.to_bytes(8)]
        assert span.parent_span_id == of_predictions[found.trace].span.to_bytes(8), "the child of a prediction's span"
        assert 1 <= len(span.links) <= 16
        linked = [(int.from_bytes(one.trace_id), int.from_bytes(one.span_id)) for one in span.links]
        assert {trace: of_predictions[trace].span for trace, _ in linked} == dict(linked)
        said = driver.alerts[alerts.index(alert)]
        assert {name: value for name, value in _said(span).items() if "alert" in name} == {
            f"headrace.alert.{name}": said[name] for name in ("series", "kind", "state", "severity")
        }
        # The events behind it are of the slices that were looked at by then: those of a step are looked at at once.
        raised_at = driver.alerts[alerts.index(alert)]["at"]
        assert all(raised_at - 200 < events[100 * (trace - 1)].at < raised_at + 25 for trace, _ in linked)
    without = Driver(_pipeline())
    without.pipe_all(records)
    for topic in ("predictions", "alerts"):
        assert [one.value for one in without.published(topic)] == [one.value for one in driver.published(topic)]


class Payment(Event, topic="payments", key="card"):
    """What waits for a label here."""

    id: str
    at: float
    card: str
    amount: float = 0.0


class Refund(Label, topic="refunds", of=Payment, within="1h", otherwise=0):
    """What becomes known of it."""

    id: str
    at: float
    card: str
    label: int


def test_what_becomes_known_of_an_event_goes_on_in_its_trace(collector: Collector) -> None:
    pipeline = Pipeline(
        name="p",
        events=Payment,
        labels=Refund,
        features={"amount": field("amount")},
        static=Linear({"amount": 1.0}),
        online=linear_model.LogisticRegression(),
    )
    driver = Driver(pipeline, traces=collector.address, traces_per_mille=1_000)
    for number in range(1, 4):
        driver.pipe({"id": f"p{number}", "card": "a", "amount": 1.0}, headers={"traceparent": header(number)})
    driver.pipe({"id": "p4", "card": "a"}, headers={"traceparent": header(4, sampled=False)})
    driver.label("p1", 1, key="a")
    labelled = driver._record({"id": "p2", "card": "a", "label": 1, "at": driver.clock}, "a", topic="refunds")
    driver._step([labelled._replace(headers=[("traceparent", header(50))])])
    driver.label("p4", 1, key="a")
    driver.advance("2h")  # p3's label did not come
    told = {
        one["id"]: (one["by"], made.headers)
        for one, made in zip(driver.outcomes, driver.published("outcomes"), strict=True)
    }
    assert {name: by for name, (by, _) in told.items()} == {
        "p1": "label",
        "p2": "label",
        "p3": "timeout",
        "p4": "label",
    }
    assert [_trace(told[name][1]) for name in ("p1", "p2", "p3")] == [1, 50, 3]
    assert told["p4"][1] is None
    wait_until(lambda: len(collector.spans) == 5, 20.0)
    labels = [one for one in collector.spans if one.name == "headrace label"]
    assert [int.from_bytes(one.trace_id) for one in labels] == [1, 50]
    assert [[int.from_bytes(link.trace_id) for link in one.links] for one in labels] == [[], [2]]


# What becomes of a step.


def _scorer(**options: Any) -> tuple[Scorer, Telemetry, Memory, InMemorySpanExporter, Traces]:
    config = config_of(traces="http://127.0.0.1:4318", traces_per_mille=1_000, **options)
    topics = (config.topic_predictions, config.topic_alerts, config.topic_dead_letters)
    exporter, telemetry = InMemorySpanExporter(), Telemetry()
    traces = Traces(config, fraud, exporter=exporter)
    scorer = Scorer(fraud, config, dict.fromkeys(topics, 100_000), telemetry=telemetry, traces=traces)
    return scorer, telemetry, Memory(PLACE, "state", fraud.fresh(), None, bytes_max=100_000), exporter, traces


def test_what_is_thrown_away_ends_with_not_committed_and_what_was_never_carried_out_leaves_no_span() -> None:
    scorer, telemetry, memory, exporter, traces = _scorer()
    records: Any = [Record(transaction(), headers=[("traceparent", header(5))])]
    scorer.step(records, memory, 1)
    telemetry.sent(scorer.step(records, memory, 1).tally, 0.0)
    telemetry.dropped()
    outputs = scorer.step(records, memory, 1)
    telemetry.sent(outputs.tally, 0.0)
    telemetry.published()
    telemetry.dropped()
    traces._provider.force_flush()
    lost, made = exporter.get_finished_spans()
    assert (lost.status.status_code, lost.status.description) == (StatusCode.ERROR, "not committed")
    assert made.status.status_code == StatusCode.UNSET
    assert outputs.headers is not None
    found = w3c.of(outputs.headers[0])
    assert (found.trace, found.span) == (5, made.context.span_id)
    assert [one.name for one in made.events] == ["taken", "decoded", "scored", "encoded", "sent"]
    moments = [one.timestamp for one in made.events]
    assert made.start_time <= moments[0]
    assert moments == sorted(moments)
    assert moments[-1] <= made.end_time
    assert traces.close() is None


def test_a_share_takes_the_traces_that_everybody_takes_with_it_and_none_that_is_not_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, _, _, exporter, _ = _scorer()
    traces = Traces(config_of(traces="http://h", traces_per_mille=250), fraud, exporter=exporter, draw=lambda: 0.25)
    low = (1 << 62) - 1  # a quarter of what there is, without the last
    given: Any = [
        [("traceparent", header(trace, sampled=sampled))]
        for trace, sampled in ((low, True), (low + 1, True), (low, False), (1 << 100 | low, True))
    ]
    records: Any = [Record(b"{}", headers=one) for one in [*given, None]]
    assert sorted(traces.begin(records, [*given, None]).made) == [0, 3]
    traces.close()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traces = Traces(config_of(traces="http://h", traces_per_mille=1_000), fraud, exporter=exporter)
    spans = traces.begin(records, [*given, None])
    assert (spans.made, spans.headers_of([0, 4])) == ({}, [given[0], None]), "what is passed on is as it came"
    traces.close()


class Untouched(Record):
    """A record whose headers somebody looks at."""

    looked = 0

    def headers(self) -> Any:
        self.looked += 1
        return super().headers()


def test_without_traces_headers_are_looked_at_once_to_be_passed_on_and_nothing_is_imported() -> None:
    config = config_of()
    topics = (config.topic_predictions, config.topic_alerts, config.topic_dead_letters)
    scorer = Scorer(fraud, config, dict.fromkeys(topics, 100_000))
    records: Any = [Untouched(transaction(id=str(at)), headers=[("traceparent", header(5))]) for at in range(9)]
    outputs = scorer.step(records, Memory(PLACE, "state", fraud.fresh(), None, bytes_max=100_000), 9)
    assert [one.looked for one in records] == [1] * 9
    assert outputs.headers == [[("traceparent", header(5))]] * 9, "as it came"
    assert outputs.tally.spans == []
    program = (
        "import sys, headrace.stream.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


def test_a_collector_that_is_away_is_told_once_and_nobody_waits_for_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces_module, "REQUEST_SECONDS_MAX", 0.3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    config = config_of(traces=address, traces_per_mille=1_000)
    traces = Traces(config, fraud)
    given: Any = [None] * 10_000
    records: Any = [Record(b"{}")] * 10_000
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        spans = traces.begin(records, given)
        spans.published()  # more than the queue holds
        wait_until(lambda: caplog.records, 20.0)
        traces.close()
    assert time.monotonic() - began < 60.0
    assert [one.getMessage() for one in caplog.records] == [
        f"traces = {address} takes no spans; they are dropped until it does, and nothing waits for it"
    ]


def test_without_the_extra_the_start_ends_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadConfig, match=r"traces = http://h: needs OpenTelemetry, .*pip install 'headrace\[otel\]'"):
        Traces(config_of(traces="http://h"), fraud)
    with pytest.raises(BadConfig) as refused:
        config_of(traces="https://me:hunter2@collector")
    assert "hunter2" not in str(refused.value)


def test_a_worker_sends_spans_of_what_it_published_and_no_word_of_what_was_in_it(
    collector: Collector, tmp_path: Path
) -> None:
    given = {
        "p1": [("traceparent", header(1)), ("tenant", b"t")],
        "p2": [("traceparent", header(2, sampled=False))],
        "p3": [("traceparent", b"odd")],
        "": [("traceparent", header(4))],
    }
    with EmbeddedBroker() as broker:
        client = confluent_kafka.Producer({"bootstrap.servers": broker.address, "log_level": 0})
        for name, headers in given.items():
            value = transaction(id=name, merchant="m-secret") if name else b'{"merchant": "m-secret"}'
            client.produce("transactions", value, b"card-7", headers=headers)
        assert client.flush(30) == 0
        settings = (f"traces={collector.address}", "traces_per_mille=1000", "web_port=-1", f"state_dir={tmp_path}")
        command = [sys.executable, "-m", "headrace.stream.cli", "run", str(ROOT / "benchmarks/stateless")]
        command += ["--broker", broker.address, *(part for one in settings for part in ("--set", one))]
        environment = {**os.environ, "OTEL_SERVICE_NAME": "cards"}
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment)
        try:
            wait_until(lambda: len(collector.spans) == 3)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        finally:
            worker.kill()
        published = dict(_read(broker.address, "predictions", 3) + _read(broker.address, "dead-letters", 1))
    spans = {int.from_bytes(one.span_id): one for one in collector.spans}
    assert len(spans) == 3
    found = {name: w3c.of(headers) for name, headers in published.items()}
    assert (found["p1"].trace, found["p2"].trace, found[None].trace) == (1, 2, 4)
    assert published["p1"][0] == ("tenant", b"t")
    assert found["p2"].span == 7, "what is not sampled goes on as it came"
    first, third, letter = (spans[found[name].span] for name in ("p1", "p3", None))
    assert {one.name for one in spans.values()} == {"headrace score"}
    assert first.parent_span_id == letter.parent_span_id == (7).to_bytes(8)
    assert third.parent_span_id == b"", "what is no trace begins one"
    assert first.kind == first.SPAN_KIND_CONSUMER
    assert first.start_time_unix_nano <= first.end_time_unix_nano
    said = _said(first)
    assert said == {
        "messaging.system": "kafka",
        "messaging.operation.name": "score",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": fraud.name,
        "messaging.destination.name": "transactions",
        "messaging.destination.partition.id": said["messaging.destination.partition.id"],
        "messaging.kafka.offset": 0,
        "headrace.pipeline": fraud.name,
        "headrace.version": fraud.version,
    }
    assert (letter.status.code, letter.status.message) == (letter.status.STATUS_CODE_ERROR, "missing_field")
    assert _said(letter)["error.type"] == "missing_field"
    resource = collector.requests[0].resource_spans[0].resource
    assert {one.key: one.value.string_value for one in resource.attributes}["service.name"] == "cards"
    for secret in (b"m-secret", b"card-7", b"p1"):
        assert not any(secret in got.body for got in collector.accepted)


def _read(address: str, topic: str, count: int) -> list[tuple[str | None, Any]]:
    """Return the headers of a topic's records, by the id in their value."""
    settings = {"bootstrap.servers": address, "group.id": "t", "auto.offset.reset": "earliest", "log_level": 0}
    consumer = confluent_kafka.Consumer(settings)
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(4)])
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found += [one for one in consumer.consume(10, 0.2) if one.error() is None]
    consumer.close()

    return [(msgspec.json.decode(one.value()).get("id"), one.headers()) for one in found]
