"""Counters, gauges and histograms, and how Prometheus reads them."""

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, product

import numpy as np

from headrace.models.features import Floats
from headrace.schemas.metrics import LABELS, METRICS, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class _Histogram:
    """How many values lie below each bound and above the one before it, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0


class Registry:
    """The metrics of one worker, by the names and labels of ``schemas.metrics``, and of no others.

    Whoever counts does so a batch at a time, from whichever thread: each call holds the lock for less than a
    microsecond. What is known beforehand to be countable is there from the beginning, at zero, because a rate
    of a series that appears with its first event does not see that event.

    >>> registry = Registry()
    >>> registry.add("headrace_predictions_total", 500)
    >>> print(registry.text("headrace_predictions_total"), end="")
    # HELP headrace_predictions_total predictions that were published: exactly once, committed
    # TYPE headrace_predictions_total counter
    headrace_predictions_total 500
    """

    def __init__(self, buckets: Mapping[str, Sequence[float]] | None = None) -> None:
        self._lock = threading.Lock()
        self._buckets = {name: metric.buckets for name, metric in METRICS.items() if metric.kind == "histogram"}
        self._buckets.update({name: tuple(bounds) for name, bounds in (buckets or {}).items()})
        self._bounds = {name: np.array(bounds) for name, bounds in self._buckets.items()}
        self._numbers: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        for name, metric in METRICS.items():
            known = list(_known(metric))
            if metric.kind == "histogram":
                self._histograms[name] = {labels: _Histogram(self._buckets[name]) for labels in known}
            else:
                self._numbers[name] = dict.fromkeys(known, 0) if metric.kind == "counter" else {}

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count."""
        with self._lock:
            numbers = self._numbers[name]
            numbers[labels] = numbers.get(labels, 0) + amount

    def set(self, name: str, value: float, *labels: str) -> None:
        """Say how it stands."""
        with self._lock:
            self._numbers[name][labels] = value

    def replace(self, name: str, values: Mapping[Labels, float]) -> None:
        """Say how all of it stands: what is not named is not there any more."""
        with self._lock:
            self._numbers[name] = dict(values)

    def keep_only(self, name: str, labels: Iterable[Labels]) -> None:
        """Drop all of it but this."""
        kept = set(labels)
        with self._lock:
            self._numbers[name] = {one: value for one, value in self._numbers[name].items() if one in kept}

    def labels(self, name: str) -> list[Labels]:
        """Return by what it is told apart now."""
        with self._lock:
            return list(self._numbers[name])

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Put one value where it belongs."""
        self.observe_some(name, [(value, 1)], *labels)

    def observe_some(self, name: str, values: Iterable[tuple[float, int]], *labels: str) -> None:
        """Put values where they belong, each as often as is said beside it."""
        bounds = self._buckets[name]
        with self._lock:
            histogram = self._of(name, labels)
            for value, count in values:
                histogram.counts[bisect_left(bounds, value)] += count
                histogram.sum += value * count

    def observe_all(self, name: str, values: Floats, *labels: str, each: int = 1) -> None:
        """Put a column of numbers where they belong; NaN belongs nowhere."""
        there = values[~np.isnan(values)]
        counts = np.bincount(self._bounds[name].searchsorted(there), minlength=len(self._buckets[name]) + 1).tolist()
        total = float(there.sum())
        with self._lock:
            histogram = self._of(name, labels)
            histogram.counts = [had + each * more for had, more in zip(histogram.counts, counts, strict=True)]
            histogram.sum += each * total

    def _of(self, name: str, labels: Labels) -> _Histogram:
        of = self._histograms[name]
        histogram = of.get(labels)
        if histogram is None:
            histogram = of[labels] = _Histogram(self._buckets[name])
        return histogram

    def value(self, name: str, *labels: str) -> float | None:
        """Return what is counted or measured; of a histogram, how many values it has; None where nothing is."""
        with self._lock:
            if name in self._histograms:
                histogram = self._histograms[name].get(labels)
                return None if histogram is None else sum(histogram.counts)
            return self._numbers[name].get(labels)

    def numbers(self, name: str) -> dict[Labels, float]:
        """Return what is counted or measured, by its labels."""
        with self._lock:
            return dict(self._numbers[name])

    def histograms(self, name: str) -> dict[Labels, tuple[int, ...]]:
        """Return how many values lie below each of ``bounds`` and above the one before; the last are above all."""
        with self._lock:
            return {labels: tuple(one.counts) for labels, one in self._histograms[name].items()}

    def sums(self, name: str) -> dict[Labels, float]:
        """Return the sum of a histogram's values, by its labels."""
        with self._lock:
            return {labels: one.sum for labels, one in self._histograms[name].items()}

    def bounds(self, name: str) -> tuple[float, ...]:
        """Return what a histogram's values are put between."""
        return tuple(self._buckets[name])

    def text(self, *names: str) -> str:
        """Return these metrics, or all of them, in Prometheus' text format."""
        lines: list[str] = []
        with self._lock:
            for name in names or METRICS:
                lines += self._lines(name, METRICS[name])
        return "\n".join(lines) + "\n"

    def _lines(self, name: str, metric: Metric) -> Iterable[str]:
        yield f"# HELP {name} {_escaped(metric.text)}"
        yield f"# TYPE {name} {metric.kind}"
        if metric.kind != "histogram":
            for labels, value in self._numbers[name].items():
                yield f"{name}{_labelled(metric.labels, labels)} {_number(value)}"
            return
        bounds = [*map(_number, map(float, self._buckets[name])), "+Inf"]
        for labels, histogram in self._histograms[name].items():
            total = 0
            for bound, total in zip(bounds, accumulate(histogram.counts), strict=True):
                yield f"{name}_bucket{_labelled((*metric.labels, 'le'), (*labels, bound))} {total}"
            yield f"{name}_sum{_labelled(metric.labels, labels)} {_number(histogram.sum)}"
            yield f"{name}_count{_labelled(metric.labels, labels)} {total}"


def _known(metric: Metric) -> Iterable[Labels]:
    """Return the labels that there will be, where all of them are known."""
    return product(*(LABELS[label].values for label in metric.labels))


def _labelled(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value, quoted=True)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text


def _number(value: float) -> str:
    """Write a number as Prometheus does.

    >>> [_number(value) for value in (3, 0.25, float("inf"), float("-inf"), float("nan"))]
    ['3', '0.25', '+Inf', '-Inf', 'NaN']
    """
    if isinstance(value, int):
        return str(int(value))  # of a truth value too
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
