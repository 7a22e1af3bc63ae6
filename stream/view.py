"""From what a worker counts to what its page shows: numbers in, plain data out."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from headrace.stream.registry import Labels, Registry

RATE_SECONDS = 5.0  # over which rates and shares are taken
LATENCY_SECONDS = 15.0
SCORES_SECONDS = 60.0  # over which the distribution of scores is "lately"
KEPT_SECONDS = SCORES_SECONDS + 15.0
HISTORY_SECONDS = 2.0  # from one point to the next
HISTORY_COUNT = 300  # ten minutes
MEASURES = ("log_loss", "roc_auc", "pr_auc", "accuracy", "rmse", "mae", "r2")  # of which a history is kept, if there

COUNTERS = (
    "headrace_events_consumed_total",
    "headrace_events_scored_total",
    "headrace_predictions_total",
    "headrace_dead_letters_total",
    "headrace_labels_total",
    "headrace_learner_taught_total",
    "headrace_alerts_total",
    "headrace_commits_total",
    "headrace_rebalances_total",
)
LATENCY = "headrace_event_latency_seconds"
SCORES = "headrace_prediction_score"
STAGES = ("decode", "score", "encode", "send")


class Sample(NamedTuple):
    """What was counted at a time."""

    at: float
    counters: Mapping[str, Mapping[Labels, float]]
    latency: Sequence[int]
    scores: Mapping[Labels, Sequence[int]]
    seconds: Mapping[str, float]  # that each stage took, and commits


def sample(registry: Registry, now: float) -> Sample:
    """Return what is counted now."""
    sums = registry.sums("headrace_step_seconds")
    seconds = {stage: sums.get((stage,), 0.0) for stage in STAGES}
    return Sample(
        now,
        {name: registry.numbers(name) for name in COUNTERS},
        registry.histograms(LATENCY).get((), ()),
        registry.histograms(SCORES),
        {**seconds, "commit": registry.sums("headrace_commit_seconds").get((), 0.0)},
    )


def rates(now: Sample, before: Sample) -> dict[str, dict[str, float]]:
    """Return how many a second came to each counter in between; where nothing came, nothing is said."""
    span = now.at - before.at
    return {
        name: {
            " ".join(labels): (value - had) / span
            for labels, value in numbers.items()
            if span > 0 and value > (had := before.counters.get(name, {}).get(labels, 0))
        }
        for name, numbers in now.counters.items()
    }


def shares(now: Sample, before: Sample) -> dict[str, float]:
    """Return which part of the time in between each stage took."""
    span = now.at - before.at
    if span <= 0:
        return dict.fromkeys(now.seconds, 0.0)
    return {stage: max(0.0, took - before.seconds.get(stage, 0.0)) / span for stage, took in now.seconds.items()}


def since(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """Return what came to a histogram in between.

    >>> since([3, 5, 0], [1, 5, 0]), since([3, 5], [])
    ([2, 0, 0], [3, 5])
    """
    return [many - less for many, less in zip(now, before or [0] * len(now), strict=True)]


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return below what this share of a histogram's values lies, evenly spread within a bin; None without values.

    Above the last bound nobody knows where values are, so the answer is that bound.

    >>> quantile((1.0, 2.0, 4.0), [0, 10, 10, 0], 0.5), quantile((1.0, 2.0, 4.0), [0, 10, 10, 0], 0.75)
    (2.0, 3.0)
    >>> quantile((1.0, 2.0), [0, 0, 5], 0.5), quantile((1.0, 2.0), [0, 0, 0], 0.5)
    (2.0, None)
    """
    total = sum(counts)
    if not total:
        return None
    wanted, low = share * total, 0.0
    for bound, many, until in zip(bounds, counts, accumulate(counts), strict=False):
        if until >= wanted and many:
            return low + (bound - low) * (wanted - (until - many)) / many
        low = bound
    return bounds[-1]


def qualities(numbers: Mapping[Labels, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Return how good each model is: by model, measure and window.

    >>> qualities({("static", "log_loss", "recent"): 0.25})
    {'static': {'log_loss': {'recent': 0.25}}}
    """
    told: dict[str, dict[str, dict[str, float]]] = {}
    for (model, measure, window), value in numbers.items():
        told.setdefault(model, {}).setdefault(measure, {})[window] = value
    return told


def partitions(registry: Registry) -> list[dict[str, Any]]:
    """Return how this worker's partitions stand."""
    lag, seconds = registry.numbers("headrace_consumer_lag_records"), registry.numbers("headrace_consumer_lag_seconds")
    left = registry.numbers("headrace_state_recovery_remaining_records")
    keys: dict[str, float] = {}
    for (number, _), many in registry.numbers("headrace_state_keys").items():
        keys[number] = keys.get(number, 0) + many
    return [
        {
            "topic": topic,
            "partition": int(number),
            "lag": many,
            "lag_seconds": seconds.get((topic, number), 0.0),
            "recovering": left.get((number,)),
            "keys": keys.get(number),
        }
        for (topic, number), many in sorted(lag.items(), key=lambda one: (one[0][0], int(one[0][1])))
    ]


class View:
    """What the page shows of a worker's counters, and how they have been.

    It keeps what it was given for as long as rates look back, and a point of history every two seconds; who gives it
    samples decides how often. The same samples give the same view.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._samples: deque[Sample] = deque()
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_COUNT)

    def look(self, now: float) -> dict[str, Any]:
        """Take a sample; return what there is to be seen."""
        registry, newest = self._registry, sample(self._registry, now)
        self._samples.append(newest)
        while self._samples[0].at < now - KEPT_SECONDS:
            self._samples.popleft()
        before = self._before(now - RATE_SECONDS)
        told = rates(newest, before)
        latencies = since(newest.latency, self._before(now - LATENCY_SECONDS).latency)
        p50, p99 = (quantile(registry.bounds(LATENCY), latencies, share) for share in (0.5, 0.99))
        lately = self._before(now - SCORES_SECONDS).scores
        own = partitions(registry)
        quality = qualities(registry.numbers("headrace_quality"))
        made: dict[str, Any] = {
            "at": now,
            "totals": {name: _flat(numbers) for name, numbers in newest.counters.items()},
            "rates": told,
            "latency": {"p50": p50, "p99": p99, "count": sum(latencies), "seconds": LATENCY_SECONDS},
            "busy": shares(newest, before),
            "lag": {
                "records": sum(one["lag"] for one in own),
                "seconds": max((one["lag_seconds"] for one in own), default=0.0),
            },
            "partitions": own,
            "quality": quality,
            "scores": {
                "bounds": registry.bounds(SCORES),
                "models": {
                    model: {"all": list(counts), "lately": since(counts, lately.get((model,), ()))}
                    for (model,), counts in newest.scores.items()
                    if any(counts)
                },
                "seconds": SCORES_SECONDS,
            },
            "waiting": {
                "events": _sum(registry.numbers("headrace_events_awaiting_labels").values()),
                "labels": _sum(registry.numbers("headrace_labels_awaiting_events").values()),
            },
            "breakers": _sum(registry.numbers("headrace_breaker_open").values()),
        }
        made["point"] = _point(made)
        if not self._history or now - self._history[-1]["at"] >= HISTORY_SECONDS:
            self._history.append(made["point"])
        return made

    @property
    def history(self) -> list[dict[str, Any]]:
        """How it has been, the oldest first."""
        return list(self._history)

    def _before(self, at: float) -> Sample:
        """Return the newest sample of that time or before, or else the oldest."""
        found = self._samples[0]
        for one in self._samples:
            if one.at > at:
                break
            found = one
        return found


def _point(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a view for its curves."""
    told = {
        model: {
            name: windows["recent"] for name, windows in measures.items() if name in MEASURES and "recent" in windows
        }
        for model, measures in made["quality"].items()
    }
    return {
        "at": round(made["at"], 1),
        "rate": round(_sum(made["rates"]["headrace_predictions_total"].values()), 1),
        "p50": made["latency"]["p50"],
        "p99": made["latency"]["p99"],
        "lag": made["lag"]["records"],
        "quality": told,
    }


def _flat(numbers: Mapping[Labels, float]) -> dict[str, float]:
    return {" ".join(labels): value for labels, value in numbers.items()}


def _sum(values: Iterable[float]) -> float:
    return sum(values)
