"""Evidently's drift of each column on tumbling batches, with the tests that it chooses by itself.

From a thousand rows on these are distances: Wasserstein's for numbers, Jensen and Shannon's for categories. The tests
are called as its report calls them, without the report: that draws a picture of each column, which takes 12 s of
processor time for a batch, and the numbers in it are the same (drift of 51 columns, compared by hand).
"""

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType

from drift.contestant import Tumbling
from drift.series import MISSING, with_missing
from drift.worlds import ERROR


class Evidently(Tumbling):
    """The number is the greatest distance of any column: the knob is the threshold, which is 0.1 by default."""

    knobs = (0.001, 100.0)

    def learn(self, reference):
        self._holed = [name for name, column in reference.items() if np.isnan(column).any()]
        self._reference = self._columns(reference)

    def test(self, batch):
        return max(self.distances(batch).values())

    def distances(self, batch):
        """Return the distance of each column."""
        found = {}
        for name, now in self._columns(batch).items():
            then = self._reference[name]
            coded = name == ERROR or name.startswith("category") or MISSING in name
            kind = ColumnType.Categorical if coded else ColumnType.Numerical
            test = get_stattest(then, now, kind, None)
            found[name] = float(test(then, now, kind, None).drift_score)
        return found

    def _columns(self, batch):
        # What is missing is dropped, as its report does it.
        return {name: pd.Series(column).dropna() for name, column in (batch | with_missing(batch, self._holed)).items()}


class EvidentlyLarge(Evidently):
    """The same with batches of 5,000: later, and finer."""

    rows = 5_000
