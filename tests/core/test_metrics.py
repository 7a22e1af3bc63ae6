"""What is counted, when, and how Prometheus reads it."""

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.records import Record, config_of, fraud, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from headrace.models.labels import Waiting
from headrace.models.laws import some_steps
from headrace.schemas.alert import Alert, AlertState, Severity
from headrace.schemas.metrics import LABELS, METRICS, PREFIX, series
from headrace.stream.agents import Scorer
from headrace.stream.load import load_pipeline
from headrace.stream.registry import Registry
from headrace.stream.state import Memory
from headrace.stream.telemetry import Step, Tally, Telemetry, written

ROOT = Path(__file__).resolve().parents[2]
PLACE = ("transactions", 0)
BASE_UNITS = {"seconds", "bytes"}
# What would be another for every event or every card: Prometheus keeps each for ever.
UNBOUNDED = {"key", "user", "card", "id", "event", "offset", "message", "error"}


def _read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the samples that Prometheus' own client finds, by their names and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} {labels} is there twice"
            found[sample.name][labels] = sample.value
    return found


# The table.


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_named_as_prometheus_asks(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(rf"{PREFIX}[a-z][a-z0-9_]*", name)
    assert name.endswith("_total") == (metric.kind == "counter")
    stem = name.removesuffix("_total")
    for unit in BASE_UNITS:
        assert stem.endswith(f"_{unit}") == (metric.unit == unit), "a name ends with its base unit"
    assert not re.search(r"_(ms|us|milliseconds|kb|mb|percent)(_|$)", name)
    assert not [label for label in metric.labels if f"_{label}_" in f"_{stem}_"]
    assert metric.text, "people read what it is"
    assert "\n" not in metric.text
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_labels_are_bounded_and_each_is_used() -> None:
    used = {label for metric in METRICS.values() for label in metric.labels}
    assert used == set(LABELS)
    assert not used & UNBOUNDED
    assert all(label.bounded_by for label in LABELS.values())


def test_what_becomes_of_a_label_has_a_word_for_everything_that_is_counted() -> None:
    source = (ROOT / "models/labels.py").read_text()
    counted = set(re.findall(r'counts\["(\w+)"\]', source)) | {"duplicate", "early_revised", "orphan"}
    assert counted | {"label", "revision", "late", "timeout"} == set(LABELS["outcome"].values), Waiting.__name__


def test_the_code_counts_every_metric_and_no_other() -> None:
    code = "".join(path.read_text() for path in (ROOT / "stream").glob("*.py"))
    assert set(re.findall(rf'"({PREFIX}[a-z_]+)"', code)) == set(METRICS)


# How it is read.


def test_everything_is_read_by_prometheus_own_client_as_it_was_counted() -> None:
    registry = Registry()
    registry.add("headrace_events_consumed_total", 500, "transactions")
    registry.add("headrace_events_consumed_total", 1, "transactions")
    registry.set("headrace_event_loop_delay_seconds", 1e-9)
    registry.replace("headrace_consumer_lag_records", {("a", "0"): 3.0, ("a", "1"): float("inf")})
    registry.observe("headrace_commit_seconds", 0.005)
    registry.observe("headrace_commit_seconds", 99.0)
    text = registry.text()
    found = _read(text)
    assert found["headrace_events_consumed_total"] == {(("topic", "transactions"),): 501.0}
    assert found["headrace_event_loop_delay_seconds"] == {(): 1e-9}
    assert found["headrace_consumer_lag_records"][("partition", "1"), ("topic", "a")] == float("inf")
    buckets = {dict(labels)["le"]: count for labels, count in found["headrace_commit_seconds_bucket"].items()}
    assert (buckets["0.0025"], buckets["0.005"], buckets["30.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert found["headrace_commit_seconds_count"] == {(): 2.0}
    assert found["headrace_commit_seconds_sum"] == {(): 99.005}
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, metric in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
    assert set(found) <= {sample for name in METRICS for sample in series(name)}


def test_what_can_be_counted_is_there_at_zero_from_the_beginning() -> None:
    found = _read(Registry().text())
    assert found["headrace_predictions_total"] == {(): 0.0}
    assert len(found["headrace_dead_letters_total"]) == len(LABELS["reason"].values)
    assert found["headrace_event_latency_seconds_count"] == {(): 0.0}
    assert "headrace_consumer_lag_records" not in found, "which partitions there are is not known"


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x85\u2028\u2029\v\f\x1c\x1d\x1e")))
def test_a_label_is_read_as_it_is(text: str) -> None:
    registry = Registry()
    registry.set("headrace_state_keys", 1, "0", text)
    (labels,) = _read(registry.text("headrace_state_keys"))["headrace_state_keys"]
    assert dict(labels)["table"] == text


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.01, 0.05, 0.3, 0.3000001, 0.99, 1.0, 2.0, float("nan")])))
def test_a_column_lies_where_its_values_would_one_by_one(values: list[float]) -> None:
    one_by_one, at_once = Registry(), Registry()
    name = "headrace_prediction_score"
    for value in values:
        if value == value:  # noqa: PLR0124 - NaN belongs nowhere
            one_by_one.observe(name, value, "static")
    at_once.observe_all(name, np.array(values), "static")
    want, got = _read(one_by_one.text(name)), _read(at_once.text(name))
    counted = want.get(f"{name}_bucket", got[f"{name}_bucket"])
    assert got[f"{name}_bucket"] == counted
    bounds = {float(dict(labels)["le"]): count for labels, count in got[f"{name}_bucket"].items()}
    assert bounds == {bound: sum(value <= bound for value in values) for bound in bounds}


def test_counting_from_many_threads_loses_nothing() -> None:
    registry = Registry()

    def count() -> None:
        for _ in range(500):
            registry.add("headrace_predictions_total", 1)
            registry.observe("headrace_commit_seconds", 1.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.value("headrace_predictions_total") == registry.value("headrace_commit_seconds") == 2_000


# When it is counted.


def _scorer(pipeline: Any = fraud) -> tuple[Scorer, Telemetry, Memory]:
    telemetry, config = Telemetry(pipeline.kind), config_of()
    topics = (config.topic_predictions, config.topic_alerts, config.topic_dead_letters)
    scorer = Scorer(pipeline, config, dict.fromkeys(topics, 100_000), telemetry=telemetry)
    return scorer, telemetry, Memory(PLACE, "state", pipeline.fresh(), None, bytes_max=100_000)


def _records() -> list[Any]:
    values = [transaction(id="p1"), b"{", transaction(id="p2"), None, b"{}"]
    return [Record(value, offset=at) for at, value in enumerate(values)]


def test_what_a_step_did_is_counted_at_once_and_what_came_of_it_when_it_is_published() -> None:
    scorer, telemetry, memory = _scorer()
    value = telemetry.registry.value
    outputs = scorer.step(_records(), memory, 5)
    telemetry.sent(outputs.tally, 0.001)
    telemetry.count_steps()
    assert value("headrace_events_consumed_total", "transactions") == 5
    assert value("headrace_events_scored_total") == 2
    assert value("headrace_events_rejected_total", "not_json") == 1
    assert value("headrace_batch_events") == 1
    assert [value("headrace_step_seconds", stage) for stage in LABELS["stage"].values] == [1, 1, 1, 1]
    assert value("headrace_predictions_total") == value("headrace_dead_letters_total", "not_json") == 0
    telemetry.published()
    assert value("headrace_predictions_total") == 2
    assert {reason: value("headrace_dead_letters_total", reason) for reason in ("not_json", "empty_value")} == {
        "not_json": 1,
        "empty_value": 1,
    }
    assert value("headrace_event_latency_seconds") == 2
    assert value("headrace_prediction_score", "static") == 2
    assert value("headrace_watermark_delay_seconds", *map(str, PLACE)) > 1e7, "the payments are of 2023"
    telemetry.published()
    assert value("headrace_predictions_total") == 2


def test_what_is_thrown_away_is_not_counted_as_published() -> None:
    scorer, telemetry, memory = _scorer()
    for offset in (5, 10):
        telemetry.sent(scorer.step(_records(), memory, offset).tally, 0.0)
        telemetry.dropped()
    telemetry.sent(scorer.step(_records(), memory, 10).tally, 0.0)
    telemetry.published()
    assert telemetry.registry.value("headrace_events_scored_total") == 6, "it was done three times"
    assert telemetry.registry.value("headrace_predictions_total") == 2, "and published once"


def test_a_flush_publishes_what_was_carried_out_before_it_began() -> None:
    telemetry = Telemetry()
    telemetry.sent(Tally(PLACE, 3), 0.0)
    until = telemetry.until
    telemetry.sent(Tally(PLACE, 100), 0.0)
    telemetry.published(until)
    assert telemetry.registry.value("headrace_predictions_total") == 3
    telemetry.published()
    assert telemetry.registry.value("headrace_predictions_total") == 103


def test_of_a_large_step_some_stand_for_all() -> None:
    telemetry = Telemetry()
    scores = np.linspace(0.0, 0.999, 643)
    records: list[Any] = [Record(transaction(), offset=at) for at in range(643)]
    stamps = written(records, range(643))
    assert len(stamps) <= 8
    telemetry.sent(Tally(PLACE, 643, written=stamps, scores=[("static", scores)]), 0.0)
    telemetry.published()
    assert telemetry.registry.value("headrace_event_latency_seconds") == 643
    assert telemetry.registry.value("headrace_prediction_score", "static") == 643
    below = _read(telemetry.registry.text())["headrace_prediction_score_bucket"]
    half = next(count for labels, count in below.items() if dict(labels)["le"] == "0.5")
    assert half == pytest.approx(320, abs=20)


def test_a_record_of_which_nobody_noted_when_it_was_written_has_no_latency() -> None:
    telemetry = Telemetry()
    telemetry.sent(Tally(PLACE, 2, written=[-1, 1_700_000_000_000]), 0.0)
    telemetry.published()
    assert telemetry.registry.value("headrace_event_latency_seconds") == 1


def test_what_becomes_of_labels_is_counted_and_agrees_with_the_state() -> None:
    pipeline = load_pipeline(str(ROOT / "examples/fraud"))
    scorer, telemetry, memory = _scorer(pipeline)
    value = telemetry.registry.value
    topics = {"transactions": 0, "labels": 0}

    def step(topic: str, *values: bytes) -> None:
        topics[topic] += len(values)
        records = [Record(value, topic=topic, offset=at) for at, value in enumerate(values, topics[topic])]
        outputs = scorer.step(records, memory, topics[topic], topic)  # type: ignore[arg-type]
        telemetry.sent(outputs.tally, 0.0)
        telemetry.published()

    def label(of: str, truth: int) -> bytes:
        return b'{"id":"%s","at":1700000060.0,"card":"card-7","label":%d}' % (of.encode(), truth)

    step("transactions", transaction(id="p1"), transaction(id="p2"))
    step("labels", label("p1", 1), label("p1", 1), label("p9", 0))
    step("labels", label("p1", 0))
    counts = memory.state.learning.waiting.counts
    assert {word: value("headrace_labels_total", word) for word in counts} == dict(counts)
    assert dict(counts) == {"label": 1, "duplicate": 1, "early": 1, "null": 0, "revision": 1}
    assert value("headrace_learner_taught_total") == 1
    step("transactions", transaction(id="p9"))
    assert value("headrace_labels_total", "label") == value("headrace_learner_taught_total") == 2
    telemetry.sent(scorer.tick(memory, wall=2e9, event=2e9).tally, 0.0)
    telemetry.published()
    assert value("headrace_labels_total", "timeout") == 1
    telemetry.look_at({0: memory.state})
    assert value("headrace_state_keys", "0", "card") == 1
    assert value("headrace_state_bytes", "0", "card") > 0


def _alert(one: str, state: AlertState, severity: Severity) -> Alert:
    return Alert(id=one, at=0.0, kind="drift", state=state, text="", severity=severity)


def test_an_alert_is_open_until_it_is_cleared() -> None:
    telemetry = Telemetry()
    value = telemetry.registry.value
    low, high = Severity.LOW, Severity.HIGH
    for alert, still_low, still_high in [
        (_alert("a", AlertState.RAISED, low), 1, None),
        (_alert("b", AlertState.RAISED, low), 2, None),
        (_alert("a", AlertState.WORSE, high), 1, 1),
        (_alert("a", AlertState.CLEARED, high), 1, 0),
        (_alert("b", AlertState.CLEARED, low), 0, 0),
    ]:
        telemetry.sent(Tally(PLACE, alerts=[alert]), 0.0)
        telemetry.published()
        assert value("headrace_alerts_open", "drift", "low") == still_low
        assert value("headrace_alerts_open", "drift", "high") == still_high
    assert value("headrace_alerts_total", "drift", "high", "cleared") == 1


# What is looked up.


def test_the_quality_of_a_model_is_that_of_all_partitions_together() -> None:
    pipeline = load_pipeline(str(ROOT / "examples/fraud"))
    states = {}
    for number in range(2):
        states[number] = pipeline.fresh()
        some_steps(pipeline, 300, number).play(pipeline, states[number])
    telemetry = Telemetry(pipeline.kind)

    async def between_steps(look: Any) -> bool:
        look()
        return True

    asyncio.run(telemetry.look_at_quality(lambda: states, between_steps))
    value = telemetry.registry.value
    apart = [pipeline.quality(state, number) for number, state in states.items()]
    for reports in zip(*apart, strict=True):
        counts = [report.overall["count"] for report in reports]
        assert value("headrace_quality", reports[0].model, "count", "overall") == sum(counts) > 0
        share = sum(report.overall["accuracy"] * report.overall["count"] for report in reports) / sum(counts)
        assert value("headrace_quality", reports[0].model, "accuracy", "overall") == pytest.approx(share)
    before = telemetry.registry.text("headrace_quality")
    states.clear()
    asyncio.run(telemetry.look_at_quality(lambda: states, between_steps))
    assert telemetry.registry.text("headrace_quality") == before, "it is not looked up again at once"


def test_lag_is_told_of_the_partitions_that_the_worker_has() -> None:
    telemetry, value = Telemetry(), None
    value = telemetry.registry.value
    telemetry.sent(Tally(("t", 1), 1, event_at=0.0), 0.0)
    telemetry.published()
    lag = {("t", 0): 5, ("t", 1): 0}
    telemetry.look_at_partitions(lag, {("t", 0): 90.0}, stalled=1, buffered=3, now=100.0)
    assert value("headrace_consumer_lag_records", "t", "0") == 5
    assert value("headrace_consumer_lag_seconds", "t", "0") == 10
    assert value("headrace_consumer_lag_seconds", "t", "1") == 0
    assert value("headrace_watermark_delay_seconds", "t", "1") > 0
    telemetry.look_at_partitions({("t", 0): 5}, {("t", 0): 90.0}, stalled=0, buffered=0, now=100.0)
    assert value("headrace_consumer_lag_records", "t", "1") is None, "another worker tells of it"
    assert value("headrace_watermark_delay_seconds", "t", "1") is None


def test_who_looks_at_a_state_waits_for_the_end_of_a_step() -> None:
    scorer, _, _ = _scorer()
    looks: list[str] = []

    async def story() -> None:
        assert await scorer.between_steps(lambda: looks.append("at once"), 1.0)
        scorer.stepping = True
        looking = asyncio.ensure_future(scorer.between_steps(lambda: looks.append("after it"), 60.0))
        failing = asyncio.ensure_future(scorer.between_steps(lambda: looks[99], 60.0))
        assert not await scorer.between_steps(lambda: looks.append("never"), 0.01)
        assert looks == ["at once"]
        scorer.stepping = False
        scorer.rest()
        assert await looking
        with pytest.raises(IndexError):
            await failing

    asyncio.run(story())
    assert looks == ["at once", "after it"]


def test_steps_are_counted_once() -> None:
    telemetry = Telemetry()
    telemetry.stepped(Step("t", 10, 9, [], 0.1, 0.2, 0.3))
    telemetry.count_steps()
    telemetry.count_steps()
    assert telemetry.registry.value("headrace_events_consumed_total", "t") == 10
