"""alibi-detect's TabularDrift on tumbling batches: Kolmogorov-Smirnov for numbers, chi squared for categories."""

import math

import numpy as np
from alibi_detect.cd import TabularDrift

from drift.contestant import Tumbling
from drift.series import MISSING, with_missing
from drift.worlds import ERROR


class Alibi(Tumbling):
    """The number is how many zeros the least p-value has, so the knob is p_val (times a constant, by Bonferroni)."""

    knobs = (0.5, 300.0)

    def learn(self, reference):
        self._holed = [name for name, column in reference.items() if np.isnan(column).any()]
        self._medians = {name: np.nanmedian(reference[name]) for name in self._holed}
        matrix, names = self._matrix(reference)
        categories = {
            number: None
            for number, name in enumerate(names)
            if name == ERROR or name.startswith("category") or MISSING in name
        }
        self._detector = TabularDrift(matrix, p_val=0.05, categories_per_feature=categories)

    def test(self, batch):
        found = self._detector.predict(self._matrix(batch)[0], drift_type="feature")["data"]["p_val"]
        return -math.log10(max(float(np.nanmin(found)), 1e-300))

    def _matrix(self, batch):
        columns = {
            name: np.where(np.isnan(column), self._medians.get(name, 0.0), column) for name, column in batch.items()
        } | with_missing(batch, self._holed)
        return np.column_stack(list(columns.values())), list(columns)


class AlibiLarge(Alibi):
    """The same with batches of 5,000: later, and finer."""

    rows = 5_000
