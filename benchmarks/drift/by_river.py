"""River's detectors, one for each series; any alarm is an alarm. One that has alarmed starts anew, as River has it."""

import math

from river import drift

from drift.contestant import Contestant, Measured
from drift.series import Series
from drift.worlds import ERROR


class PerSeries(Contestant):
    """A detector of River's for each series; the reference is the first that they see."""

    def make(self):
        """Return the detector of one series."""
        raise NotImplementedError

    def fit(self, reference):
        self._series = Series(reference)
        self._detectors = {name: self.make() for name in self._series.names}
        self._through(reference)

    def update(self, batch):
        return sorted(self._through(batch))

    def _through(self, batch):
        found = set()
        for name, column in self._series.of(batch).items():
            detector = self._detectors[name]
            update = detector.update
            for place, value in enumerate(column.tolist()):
                if value == value:  # noqa: PLR0124 - the quick way to tell what is not a number
                    update(value)
                    if detector.drift_detected:
                        found.add(place)
        return found


class Adwin(PerSeries):
    """The knob is how many zeros delta has."""

    knobs = (0.5, 300.0)

    def make(self):
        return drift.ADWIN(delta=10**-self.knob)


class PageHinkley(PerSeries):
    """The knob is the threshold, in deviations of the series."""

    knobs = (5.0, 50_000.0)

    def make(self):
        return drift.PageHinkley(threshold=self.knob)


class Kswin(Measured):
    """The knob is how many zeros alpha has. It looks at one event of fifty, because a look is a whole test."""

    knobs = (0.5, 18.0)
    reads = 1 / 50

    def fit(self, reference):
        self._series, self._seen = Series(reference), 0
        alpha = 0.0 if math.isinf(self.knob) else 10**-self.knob
        self._detectors = {
            name: drift.KSWIN(alpha=alpha, seed=self.seed * 1_000 + number)
            for number, name in enumerate(self._series.names)
        }
        # Its window takes a hundred: whatever was before them is forgotten.
        last = round(200 / self.reads)
        for _ in self.measure({name: column[-last:] for name, column in reference.items()}):
            pass

    def measure(self, batch):
        count, step = len(batch[ERROR]), round(1 / self.reads)
        places = range(-self._seen % step, count, step)
        self._seen += count
        most = [0.0] * len(places)
        for name, column in self._series.of(batch).items():
            detector = self._detectors[name]
            for number, value in enumerate(column[places.start :: step].tolist()):
                if value == value:  # noqa: PLR0124
                    detector.update(value)
                    if len(detector.window) == detector.window_size or detector.drift_detected:
                        most[number] = max(most[number], -math.log10(max(detector.p_value, 1e-300)))
        yield from zip(places, most, strict=True)


class Ddm(Contestant):
    """Watches the errors alone. The knob is how many deviations are a drift."""

    knobs = (1.0, 100.0)

    def fit(self, reference):
        # With the default of 30, a detector that starts anew alarms at the first error after 30 events without one.
        self._detector = drift.binary.DDM(warm_start=1_000, drift_threshold=self.knob)
        self.update(reference)

    def update(self, batch):
        found, detector = [], self._detector
        for place, value in enumerate(batch[ERROR].tolist()):
            detector.update(value)
            if detector.drift_detected:
                found.append(place)
        return found
