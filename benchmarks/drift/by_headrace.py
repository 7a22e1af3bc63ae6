"""Headrace's monitor. The knob is what it promises: the greatest rate of false alarms, per event."""

from drift.contestant import Contestant
from headrace.models import monitor


class Headrace(Contestant):
    knobs = (1e-1, 1e-12)

    def fit(self, reference):
        self._monitor = monitor.Monitor(false_alarms_per_event=self.knob)
        self._monitor.fit(reference)

    def update(self, batch):
        return self._monitor.update(batch)
