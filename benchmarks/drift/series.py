"""What those get that watch series of numbers: everybody's features made alike, as a person would do it for them."""

import numpy as np

from drift.worlds import Columns

CLIPPED_AT = 5.0  # else one value of a heavy tail decides where every threshold has to be
MISSING = ":missing"


class Series:
    """Columns as numbers around 0 with deviation 1, as they were in the reference.

    Where values were missing in the reference, whether one is missing is a series of its own.
    """

    def __init__(self, reference: Columns):
        self.holed = [name for name, column in reference.items() if np.isnan(column).any()]
        self._means = {name: np.nanmean(column) for name, column in reference.items()}
        self._scales = {name: np.nanstd(column) or 1.0 for name, column in reference.items()}

    @property
    def names(self) -> list[str]:
        return [*self._means, *(name + MISSING for name in self.holed)]

    def of(self, batch: Columns) -> dict[str, np.ndarray]:
        """Return the series of a batch; what is missing is not a number."""
        made = {
            name: np.clip((column - self._means[name]) / self._scales[name], -CLIPPED_AT, CLIPPED_AT)
            for name, column in batch.items()
        }
        return made | with_missing(batch, self.holed)


def with_missing(batch: Columns, holed: list[str]) -> dict[str, np.ndarray]:
    """Return whether values are missing, for those columns."""
    return {name + MISSING: np.isnan(batch[name]).astype(float) for name in holed}
