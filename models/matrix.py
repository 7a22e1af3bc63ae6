"""Models of other libraries: they read a matrix, a row for each event."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import Floats
from headrace.models.static import ModelFailed

BLOCK_ROWS = 64
ALL_ROWS = 0  # the library looks at each row on its own: a call may have as many as there are
PROBED = (1, 2, 3, 7, 8, 15, 16, 31, 32, 47, 61, 63)  # by how many places rows are moved to see whether it shows

Rows = NDArray[Any]
Score = Callable[[Rows], Any]
Contribute = Callable[[Rows], Any]  # a row per row: a number for each feature, and what there is without them


class NotTold(Exception):
    """A model does not say what its features contribute; the text says why."""


class Matrix:
    """A function from a matrix to a number per row, as a model that keeps the law: a cut never shows.

    Libraries that multiply matrices add in an order that follows the number of rows, and so move the last bits of a
    score. ``rows`` says how many rows a call has, always: a last block that is not full is filled up with copies of its
    first row. Zero is as many as there are.

    >>> doubled = Matrix(lambda rows: 2 * rows[:, 0], ["amount"], version="1", rows=4)
    >>> doubled.score({"amount": np.arange(6.0)})
    array([ 0.,  2.,  4.,  6.,  8., 10.])
    """

    def __init__(
        self,
        score: Score,
        features: Sequence[str],
        *,
        version: str,
        rows: int = ALL_ROWS,
        dtype: str = "float64",
        explain: Callable[[], Contribute] | None = None,
    ) -> None:
        self.features = tuple(features)
        self.version = version
        self.rows = rows
        self._score = score
        self._dtype = dtype
        self._explain = explain  # makes ready what says why, which nobody pays for who does not ask
        self._contribute: Contribute | None = None

    def score(self, features: Mapping[str, Floats]) -> Any:
        """Return one score per event."""
        matrix = self.matrix(features)
        if self.rows == ALL_ROWS:
            return self._score(matrix)
        return in_blocks(self._score, matrix, self.rows)

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute, or nothing if it can."""
        if self._explain is None:
            return "its library does not say what features contribute"
        try:
            self._contribute = self._explain()
        except NotTold as error:
            return str(error)
        return ""

    def contributions(self, features: Mapping[str, Floats]) -> Any:
        """Return what each feature contributed, a row per event, and in the last column what there is without them."""
        if self._contribute is None and (why := self.why_no_reasons()):
            raise ModelFailed(f"gives no reasons: {why}")
        assert self._contribute is not None
        return self._contribute(self.matrix(features))

    def matrix(self, features: Mapping[str, Floats]) -> Rows:
        """Return columns as the rows that the library reads."""
        count = len(next(iter(features.values())))
        matrix = np.empty((count, len(self.features)), self._dtype)
        for place, name in enumerate(self.features):
            matrix[:, place] = features[name]
        return matrix


def in_blocks(score: Score, matrix: Rows, rows: int) -> Floats:
    """Score a matrix in blocks of so many rows, the last one filled up."""
    scores = np.empty(len(matrix))
    block = np.empty((rows, matrix.shape[1]), matrix.dtype)
    for begin in range(0, len(matrix), rows):
        part = matrix[begin : begin + rows]
        block[: len(part)] = part
        block[len(part) :] = part[0]
        made = np.asarray(score(block))
        if made.shape != (rows,):
            raise ModelFailed(f"returned shape {made.shape}, expected ({rows},): one number per event")
        scores[begin : begin + rows] = made[: len(part)]
    return scores


def place_never_shows(score: Score, samples: Sequence[Rows], rows: int) -> bool:
    """Say whether a row has the same score wherever it stands in a block of so many rows.

    A block of fixed size is enough where a library adds in an order that follows the size of the matrix, and not
    enough where it follows the place of the row as well. Which it is depends on the library, its version and the
    processor, so it is tried out, with the first of the samples that the model can read.
    """
    for sample in samples:
        block = np.resize(sample, (rows, sample.shape[1]))
        try:
            with np.errstate(all="ignore"):
                want = np.asarray(score(block))
                moved = [np.roll(np.asarray(score(np.roll(block, by, axis=0))), -by, axis=0) for by in PROBED]
        except Exception:  # noqa: BLE001, S112 - these numbers mean nothing to it
            continue
        return all(np.array_equal(one, want, equal_nan=True) for one in moved)
    return False
