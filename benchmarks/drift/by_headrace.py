"""Headrace's evidence, over slices of events. The knob is what it promises: false alarms per event, at the most."""

import numpy as np

from drift.contestant import Contestant
from headrace.models.bins import Binner, Bins
from headrace.models.evidence import Evidence
from headrace.models.usual import learned
from headrace.models.watch import Watch

SLICE = 200  # events, the fewest that a monitor looks at


class Headrace(Contestant):
    """What the monitor of a stream does with each slice, on columns; whatever alarms is an alarm."""

    knobs = (1e-1, 1e-12)

    def fit(self, reference):
        columns = [np.asarray(column, np.float64) for column in reference.values()]
        binner = Binner([Bins.of_values(name, column) for name, column in zip(reference, columns, strict=True)])
        rows = binner.bin(columns)
        usual = learned(binner, rows, np.arange(len(rows)) // SLICE, related=True)
        self._watch = Watch(usual)
        self._evidence = Evidence(usual, slices_per_alarm=1 / (self.knob * SLICE), related=self._watch.related)
        self._waiting = np.empty((0, len(columns)), np.int8)

    def update(self, batch):
        rows = self._watch.binner.bin([np.asarray(column, np.float64) for column in batch.values()])
        before = len(self._waiting)
        rows = np.concatenate([self._waiting, rows])
        alarms = []
        whole = len(rows) // SLICE * SLICE
        for begin in range(0, whole, SLICE):
            some = rows[begin : begin + SLICE]
            if self._evidence.step(self._watch.binner.count(some), self._watch.products(some)):
                alarms.append(begin + SLICE - 1 - before)
                self._evidence.begin_again()
        self._waiting = rows[whole:]
        return alarms
