"""Every metric of a worker, once: its name, what it counts or measures, in which unit, of what, and why.

``docs/metrics.md`` is written from this table; dashboards and alert rules may use no other names.
"""

from typing import Literal, NamedTuple

from headrace.schemas.alert import AlertState, Severity
from headrace.schemas.dead_letter import Reason
from headrace.schemas.order import Action, OrderState

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "headrace_"

# The bounds of what a latency is put between: a busy worker's milliseconds, and a backlog's days.
SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0,
)  # fmt: skip
STEP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 100_000.0)
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
NUMBERS = (
    -10_000.0, -1_000.0, -100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0,
)  # fmt: skip


class Label(NamedTuple):
    """What a metric is told apart by: only what is bounded, never a key, an event or an offset."""

    text: str
    bounded_by: str
    values: tuple[str, ...] = ()  # where they are known beforehand


class Metric(NamedTuple):
    """One row of the table."""

    kind: Kind
    unit: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # the upper bounds, where it is a histogram


LABELS: dict[str, Label] = {
    "topic": Label("a topic that is read", "one; more with labels, with a shared learner, and with a watch"),
    "partition": Label("the number of a partition that this worker has", "the topic's partitions"),
    "reason": Label("why a record was not scored", "the reasons of dead letters", tuple(map(str, Reason))),
    "result": Label("what became of a transaction, or of a commit without one", "two words", ("committed", "aborted")),
    "outcome": Label(
        "what became of a label, or of an event that waits for one",
        "twelve words",
        (
            "label",
            "timeout",
            "revision",
            "late",
            "orphan",
            "duplicate",
            "early",
            "early_revised",
            "null",
            "unlabelled",
            "repeated",
            "evicted",
        ),
    ),
    "stage": Label("a part of a step", "four words", ("decode", "score", "encode", "send")),
    "model": Label("`static`, `online`, `combined`, or a baseline", "the models, and at most two baselines"),
    "measure": Label("a number of [quality](quality.md), such as `log_loss`", "the numbers of that kind of model"),
    "window": Label("over all time, or the sliding window of `quality_window`", "two words", ("overall", "recent")),
    "table": Label(
        "the fields that a feature remembers by, such as `card`; `(labels)` are events that wait for theirs",
        "the kinds of keys in the pipeline",
    ),
    "kind": Label("what an alert is about", "the kinds of alerts"),
    "severity": Label("how much it matters", "three words", tuple(map(str, Severity))),
    "state": Label("what is said of it", "four words", tuple(map(str, AlertState))),
    "action": Label("what is done about an alert", "four words", tuple(map(str, Action))),
    "order": Label("what became of it", "three words", tuple(map(str, OrderState))),
    "probe": Label("which page", "three words", ("live", "ready", "started")),
    "version": Label("of Headrace, or of the static model", "one"),
    "python": Label("the version of Python", "one"),
    "librdkafka": Label("the version of librdkafka", "one"),
    "pipeline": Label("its name", "one"),
    "model_kind": Label("`binary`, `multiclass`, `regression` or `anomaly`", "one"),
    "static": Label("the class of the static model; empty where there is none", "one"),
    "online": Label("the class of the learner; empty where there is none", "one"),
}

METRICS: dict[str, Metric] = {
    # Traffic. What a step did is counted when it was done; what it published, when that was published.
    "headrace_events_consumed_total": Metric(
        "counter", "records", "records that went into a step; those that are done again are counted again", ("topic",)
    ),
    "headrace_events_scored_total": Metric(
        "counter", "events", "events that got a score in a step; those that are done again are counted again"
    ),
    "headrace_events_rejected_total": Metric(
        "counter", "records", "records that a step refused; those that are done again are counted again", ("reason",)
    ),
    "headrace_predictions_total": Metric(
        "counter", "records", "predictions that were published: exactly once, committed"
    ),
    "headrace_dead_letters_total": Metric(
        "counter", "records", "dead letters that were published: exactly once, committed", ("reason",)
    ),
    "headrace_batch_events": Metric("histogram", "records", "records in a step", (), COUNTS),
    # Latency.
    "headrace_event_latency_seconds": Metric(
        "histogram",
        "seconds",
        "from when an event's record was written to when its prediction was published: exactly once, committed; at "
        "least once, acknowledged as far as that is known. Of a step 8 records are looked at, each for its neighbours",
        (),
        SECONDS,
    ),
    "headrace_step_seconds": Metric(
        "histogram",
        "seconds",
        "how long a part of a step took: decode (bytes to events), score (features and models, or learning), encode "
        "(outputs to bytes), send (into the producer, and waiting for a commit that is under way)",
        ("stage",),
        STEP_SECONDS,
    ),
    "headrace_commit_seconds": Metric(
        "histogram", "seconds", "how long a commit took that came about", (), STEP_SECONDS
    ),
    "headrace_event_loop_delay_seconds": Metric(
        "gauge", "seconds", "how much later than asked the event loop came to its last tick"
    ),
    # Kafka.
    "headrace_commits_total": Metric(
        "counter", "transactions", "transactions, or commits without one, by what became of them", ("result",)
    ),
    "headrace_rebalances_total": Metric(
        "counter", "changes", "how often partitions were given to this worker or taken from it"
    ),
    "headrace_partitions_assigned": Metric("gauge", "partitions", "partitions that this worker has"),
    "headrace_partitions_stalled": Metric(
        "gauge", "partitions", "partitions with lag that have not moved for `stall_red_ms`"
    ),
    "headrace_consumer_lag_records": Metric(
        "gauge", "records", "records between what was dealt with and the end of the log", ("topic", "partition")
    ),
    "headrace_consumer_lag_seconds": Metric(
        "gauge", "seconds", "how long ago the oldest record was written that was not dealt with", ("topic", "partition")
    ),
    "headrace_buffered_records": Metric("gauge", "records", "records that are fetched and not yet in a step"),
    "headrace_watermark_delay_seconds": Metric(
        "gauge",
        "seconds",
        "how far the time of the newest event lay behind the clock when its prediction was published",
        ("topic", "partition"),
    ),
    # State.
    "headrace_state_keys": Metric("gauge", "keys", "keys that are remembered", ("partition", "table")),
    "headrace_state_bytes": Metric("gauge", "bytes", "what they take of memory", ("partition", "table")),
    "headrace_state_recovery_remaining_records": Metric(
        "gauge",
        "records",
        "changes that are still to be taken in until a partition's memory is made again; there only while it is",
        ("partition",),
    ),
    "headrace_state_recovery_seconds": Metric(
        "histogram", "seconds", "how long it took to make a partition's memory again", (), SECONDS
    ),
    # Labels and learning.
    "headrace_labels_total": Metric(
        "counter", "labels", "labels, and events without one, by what became of them; published", ("outcome",)
    ),
    "headrace_events_awaiting_labels": Metric(
        "gauge", "events", "scored events that are kept for their label, or for a correction of it", ("partition",)
    ),
    "headrace_labels_awaiting_events": Metric("gauge", "labels", "labels that wait for their event", ("partition",)),
    "headrace_learner_taught_total": Metric(
        "counter",
        "events",
        "events that taught the learner and the combination, or would have, had no limit kept them from it",
    ),
    "headrace_quality": Metric(
        "gauge",
        "",
        "how good a model has been, in the partitions of this worker together; what nobody can say yet is not there",
        ("model", "measure", "window"),
    ),
    "headrace_prediction_score": Metric(
        "histogram",
        "",
        "scores by model. Of a step 32 are looked at, each for its neighbours. The bounds are for probabilities where "
        "the pipeline is binary, else powers of ten",
        ("model",),
        PROBABILITIES,
    ),
    "headrace_breaker_open": Metric(
        "gauge", "", "1 where the static model failed too often and its fallback is asked, else 0", ("partition",)
    ),
    # Alerts.
    "headrace_alerts_total": Metric(
        "counter", "alerts", "what was published to `alerts`", ("kind", "severity", "state")
    ),
    "headrace_alerts_open": Metric(
        "gauge", "alerts", "alerts that this worker raised and has not cleared", ("kind", "severity")
    ),
    "headrace_actions_total": Metric(
        "counter",
        "orders",
        "what was done about alerts by itself: given or lifted by the worker that raised the alert, applied in a "
        "partition; published",
        ("action", "order"),
    ),
    # What this is, and whether it is well.
    "headrace_health": Metric("gauge", "", "1 where the health page says 200, else 0", ("probe",)),
    "headrace_build_info": Metric("gauge", "", "always 1", ("version", "python", "librdkafka")),
    "headrace_model_info": Metric("gauge", "", "always 1", ("pipeline", "version", "model_kind", "static", "online")),
}


def series(name: str) -> tuple[str, ...]:
    """Return the names under which a metric's samples are exposed.

    >>> series("headrace_commit_seconds")
    ('headrace_commit_seconds_bucket', 'headrace_commit_seconds_sum', 'headrace_commit_seconds_count')
    """
    return (
        tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if METRICS[name].kind == "histogram" else (name,)
    )
