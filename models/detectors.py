"""River's detectors of drift over the errors of one partition, label by label, and what they find as alerts.

How often such a detector is wrong is its own: nothing of ours bounds it, so what it finds has a kind of its own, and
takes no part in the false alarms that a watch promises.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from river import base

from headrace.models import frozen
from headrace.models.anatomy import unseeded
from headrace.models.labels import Scored
from headrace.models.memory import Floats
from headrace.models.snapshot import Unreadable
from headrace.schemas.errors import StateMismatch

OF = {"error": "score", "error_static": "static", "error_online": "online"}  # the scores that the errors are of
CALM_COUNT = 1_000  # labels without another finding after which one is over
RECENT_COUNT = 100  # labels, of which the mean error is told beside that of all before


class Finding(NamedTuple):
    """A detector found a change of errors, or has found none for a while."""

    series: str
    number: int
    at: float
    raised: bool
    detector: str
    effect: dict[str, float]


class Following:
    """One detector at work, and how large the errors were that it was given."""

    def __init__(self, series: str, detector: Any) -> None:
        self._series = series
        self._begun = detector
        self._detector = detector.clone()
        self._binary = isinstance(detector, base.BinaryDriftDetector)
        self._name = type(detector).__name__
        self.fingerprint = " ".join(repr(detector).split())
        self._findings = 0
        self._open = False
        self._calm = 0
        self._before = [0.0, 0.0]  # sum and count of errors since the last finding
        self._recent = 0.0  # a mean that fades
        self._seen = 0

    def step(self, errors: Floats, wrong: Floats, at: Floats) -> Iterator[Finding]:
        """Take errors, one after the other, and yield what is found."""
        given = wrong if self._binary else errors
        there = np.isfinite(errors) & np.isfinite(given)
        for value, error, when in zip(*(one[there].tolist() for one in (given, errors, at)), strict=True):
            self._seen += 1
            self._recent += (error - self._recent) / min(self._seen, RECENT_COUNT)
            self._detector.update(bool(value) if self._binary else value)
            found, self._calm = self._detector.drift_detected, self._calm + 1
            if found:
                self._calm = 0
                if not self._open:
                    self._open = True
                    self._findings += 1
                    yield self._told(when, raised=True)
                self._before = [0.0, 0.0]
            elif self._open and self._calm >= CALM_COUNT:
                self._open = False
                yield self._told(when, raised=False)
            self._before = [self._before[0] + error, self._before[1] + 1.0]

    def _told(self, at: float, *, raised: bool) -> Finding:
        total, count = self._before
        effect = {self._series: round(self._recent, 6)}
        if count:
            effect[f"{self._series}_before"] = round(total / count, 6)
        return Finding(self._series, self._findings, at, raised, self._name, effect)

    def dump(self) -> list[Any]:
        """Return all of it as plain data."""
        held = frozen.freeze(self._detector)
        return [held, self._findings, self._open, self._calm, list(self._before), self._recent, self._seen]

    def load(self, data: Any) -> None:
        """Take what ``dump`` returned; a detector of another River begins anew."""
        held, self._findings, self._open, self._calm, self._before, self._recent, self._seen = data
        self._before = list(self._before)
        try:
            self._detector = frozen.thaw(held)
        except (StateMismatch, Unreadable):
            self._detector = self._begun.clone()


class Detecting:
    """The detectors of one partition."""

    def __init__(self, detectors: Mapping[str, Any]) -> None:
        self._all = {series: Following(series, one) for series, one in detectors.items()}
        self._findings: list[Finding] = []

    def known(self, of: Scored, label: Floats, at: Floats) -> None:
        """Take what became known of events."""
        for series, one in self._all.items():
            score = getattr(of, OF[series])
            errors = np.abs(label - score)
            # Of classes it was compared already whether the likeliest one was true.
            wrong = np.where(np.isnan(errors), np.nan, (score >= 0.5) != label if of.said is None else label != 1.0)
            self._findings += one.step(errors, wrong, at)

    def findings(self) -> list[Finding]:
        """Return what was found since this was last asked."""
        findings, self._findings = self._findings, []
        return findings

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {series: [one.fingerprint, one.dump()] for series, one in self._all.items()}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned; a detector with other parameters begins anew."""
        for series, one in self._all.items():
            fingerprint, held = data.get(series) or (None, None)
            if fingerprint == one.fingerprint:
                one.load(held)


def problems(detectors: Mapping[str, Any], *, kind: str, static: bool, online: bool, learns: bool) -> Iterator[str]:
    """Yield why errors cannot be followed so."""
    if detectors and not learns:
        yield "watch: detectors: errors are known by labels, and there are none; name them by labels="
    for series, detector in detectors.items():
        said = f"watch: detectors[{series!r}]"
        if series not in OF:
            yield f"{said}: allowed are {', '.join(OF)}"
            continue
        if (series == "error_static" and not static) or (series == "error_online" and not online):
            yield f"{said}: there is no such model"
        if not isinstance(detector, base.DriftDetector | base.BinaryDriftDetector):
            yield f"{said} is {detector!r}: expected a detector of river.drift, such as drift.ADWIN()"
            continue
        if isinstance(detector, base.BinaryDriftDetector) and kind not in ("binary", "multiclass"):
            yield f"{said}: {type(detector).__name__} follows whether scores were wrong, and here they are numbers"
        for path in unseeded(detector):
            yield f"{said}: {path.partition('.')[2]}=None draws other numbers in every process; give it a seed"
        try:
            frozen.freeze(detector)
        except frozen.NotKept as error:
            yield f"{said}: its state cannot be kept: {error}"
