"""Evidently's drift of each column on tumbling batches, with the tests that it chooses by itself.

From a thousand rows on these are distances: Wasserstein's for numbers, Jensen and Shannon's for categories.
"""

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from drift.contestant import Tumbling
from drift.series import MISSING, with_missing
from drift.worlds import ERROR


class Evidently(Tumbling):
    """The number is the greatest distance of any column: the knob is the threshold, which is 0.1 by default."""

    knobs = (0.001, 100.0)

    def learn(self, reference):
        self._holed = [name for name, column in reference.items() if np.isnan(column).any()]
        names = [*reference, *(name + MISSING for name in self._holed)]
        coded = [name for name in names if name == ERROR or name.startswith("category") or MISSING in name]
        self._definition = DataDefinition(
            numerical_columns=[name for name in names if name not in coded], categorical_columns=coded
        )
        self._reference = self._dataset(reference)

    def test(self, batch):
        told = Report([DataDriftPreset()]).run(self._dataset(batch), self._reference).dict()["metrics"]
        return max(float(one["value"]) for one in told if one["metric_name"].startswith("ValueDrift"))

    def _dataset(self, batch):
        return Dataset.from_pandas(
            pd.DataFrame(batch | with_missing(batch, self._holed)), data_definition=self._definition
        )


class EvidentlyLarge(Evidently):
    """The same with batches of 5,000: later, and finer."""

    rows = 5_000
