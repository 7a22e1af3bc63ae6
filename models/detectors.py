"""River's detectors of drift over the errors of one partition, label by label, and what they find as alerts.

How often such a detector is wrong is its own: nothing of ours bounds it, so what it finds has a kind of its own, and
takes no part in the false alarms that a watch promises.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from river import base

from headrace.models import frozen
from headrace.models.anatomy import unseeded
from headrace.models.labels import Scored
from headrace.models.memory import Floats, Ints
from headrace.models.snapshot import Unreadable
from headrace.schemas.errors import StateMismatch

OF = {"error": "score", "error_static": "static", "error_online": "online"}  # the scores that the errors are of
ADWIN = "river.drift.adwin"  # by its name: whoever imports river.drift for it imports half of scikit-learn
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
    place: int  # of the label, among those that were given together


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
        self._calm = 0  # labels since the last finding
        self._before = 0.0  # sum of the errors since then, and how many they are
        self._before_count = 0
        self._recent: deque[float] = deque(maxlen=RECENT_COUNT)

    def step(self, errors: Floats, wrong: Floats, at: Floats) -> Iterator[Finding]:
        """Take errors, one after the other, and yield what is found."""
        given = wrong if self._binary else errors
        there = np.flatnonzero(np.isfinite(errors) & np.isfinite(given))
        given, errors = given[there], errors[there]
        begin = 0
        for place in self._found((given != 0.0).tolist() if self._binary else given.tolist()):
            yield from self._pass(errors[begin:place], at, there[begin:place])
            begin = place + 1
            self._take(errors[place:begin])
            if not self._open:
                self._open = True
                self._findings += 1
                yield self._told(at, int(there[place]), raised=True)
            self._calm, self._before, self._before_count = 0, 0.0, 0
        yield from self._pass(errors[begin:], at, there[begin:])

    def _found(self, values: list[Any]) -> Iterator[int]:
        """Feed the detector, and yield the places at which it finds something."""
        detector = self._detector
        if type(detector).__module__ == ADWIN:
            yield from _found_by_adwin(detector, values)
            return
        update = detector.update
        for place, value in enumerate(values):
            update(value)
            if detector.drift_detected:
                yield place

    def _pass(self, errors: Floats, at: Floats, there: Ints) -> Iterator[Finding]:
        """Take errors at which nothing was found; yield that it has been so for long."""
        left = CALM_COUNT - self._calm
        if self._open and len(errors) >= left:
            self._take(errors[:left])
            self._open = False
            yield self._told(at, int(there[left - 1]), raised=False)
            errors = errors[left:]
        self._take(errors)

    def _take(self, errors: Floats) -> None:
        self._recent.extend(errors.tolist())
        self._calm += len(errors)
        self._before_count += len(errors)
        # One after the other, so that it does not show where they were cut.
        self._before = float(np.add.accumulate(np.append(self._before, errors))[-1])

    def _told(self, at: Floats, place: int, *, raised: bool) -> Finding:
        effect = {
            self._series: round(sum(self._recent) / len(self._recent), 6),
            f"{self._series}_before": round(self._before / self._before_count, 6),
        }
        return Finding(self._series, self._findings, float(at[place]), raised, self._name, effect, place)

    def dump(self) -> list[Any]:
        """Return all of it as plain data."""
        held = frozen.freeze(self._detector)
        before = [self._before, self._before_count]
        return [held, self._findings, self._open, self._calm, before, np.array(self._recent, np.float64)]

    def load(self, data: Any) -> None:
        """Take what ``dump`` returned; a detector of another River begins anew."""
        held, self._findings, self._open, self._calm, (self._before, self._before_count), recent = data
        self._recent.clear()
        self._recent.extend(recent.tolist())
        try:
            self._detector = frozen.thaw(held)
        except (StateMismatch, Unreadable):
            self._detector = self._begun.clone()


def _found_by_adwin(detector: Any, values: list[float]) -> Iterator[int]:
    """Do the same past ADWIN's Python, which has nothing to do until something is found: a third of the time."""
    begin = 0
    while begin < len(values):
        if detector.drift_detected:
            detector._reset()  # noqa: SLF001 - as its update does before the next value
        update = detector._helper.update  # noqa: SLF001
        place = next((place for place, value in enumerate(values[begin:], begin) if update(value)), None)
        detector._drift_detected = place is not None  # noqa: SLF001
        if place is None:
            return
        yield place
        begin = place + 1


class Detecting:
    """The detectors of one partition."""

    def __init__(self, detectors: Mapping[str, Any]) -> None:
        self._all = {series: Following(series, one) for series, one in detectors.items()}
        self._findings: list[Finding] = []

    def known(self, of: Scored, label: Floats, at: Floats) -> None:
        """Take what became known of events."""
        found: list[Finding] = []
        for series, one in self._all.items():
            score = getattr(of, OF[series])
            errors = np.abs(label - score)
            # Of classes it was compared already whether the likeliest one was true.
            wrong = np.where(np.isnan(errors), np.nan, (score >= 0.5) != label if of.said is None else label != 1.0)
            found += one.step(errors, wrong, at)
        self._findings += sorted(found, key=lambda one: one.place)  # as if labels had come one by one

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
    if not learns:
        yield "detectors: errors are known by labels, and there are none; name them by labels="
    for series, detector in detectors.items():
        said = f"detectors[{series!r}]"
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
