"""What the labels of each kind of model add to a tally, and what a tally says."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from headrace.models.exact import POINT, as_float
from headrace.models.memory import Array, Floats, Ints
from headrace.models.ranking import NUMBER_BINS, PROBABILITY_BINS, number_bins, probability_bins, ranked
from headrace.models.tally import Tally

Kind = Literal["binary", "multiclass", "regression", "anomaly"]
Told = dict[str, float | None]

UNIT = 1 << 16  # of a label with the weight one; weights are rounded to a part in this
VALUE_MAX = 1e150  # of a number to be foretold: its square must be a float
CALIBRATION_BINS = 10
CLASSES_MAX = 100
OTHER = "(other)"  # the class of a label beyond the first ones that are told apart
_SURE = 1e-15  # a probability is never taken for nearer to zero or one, as in River

# Every tally begins with these counts.
UNUSABLE, FIRST, CHANGED, STAYED = range(4)
_COMMON = 4


class Parts(NamedTuple):
    """Rows taken apart: which counts they add to, which numbers to which sums, and which pairs of classes they are."""

    counts: list[Ints]
    values: list[tuple[Ints | int, Floats]]
    pairs: Sequence[tuple[Any, Any]] = ()


class Foretold(NamedTuple):
    """What a multiclass model said: the likeliest class of each row, and a column of probabilities for each class."""

    said: Sequence[Any]
    chances: Mapping[Any, Floats]


class Measure:
    """What is counted and summed for a kind of model, and what that says."""

    size: int
    sums: int
    ordered = True  # whether a label can be the same as the one before it

    def __init__(self) -> None:
        self.known: set[Any] = set()  # the classes that were met, where there are some

    def read(self, scores: Any, labels: Any) -> tuple[list[Array], Array, Array]:
        """Return the columns of a batch, labels first, and say of each row whether its label and its score can be."""
        raise NotImplementedError

    def parts(self, columns: Sequence[Array]) -> Parts:
        """Take usable rows apart."""
        raise NotImplementedError

    def told(self, tally: Tally) -> Told:
        """Return what a tally says."""
        raise NotImplementedError


def measure_of(kind: Kind, *, threshold: float, costs: tuple[float, float], k: float, classes_max: int) -> Measure:
    """Return what is measured of a model of this kind."""
    match kind:
        case "binary":
            return _Binary(threshold, costs, k)
        case "multiclass":
            return _Multiclass(classes_max)
        case "regression":
            return _Regression()
        case "anomaly":
            return _Anomaly(k)
    raise ValueError(f"kind = {kind!r}: allowed are {', '.join(get_args(Kind))}")


class _Binary(Measure):
    """Probabilities of a one, and whether it was one."""

    _CONFUSION = _COMMON  # label, then alert
    _CALIBRATION = _CONFUSION + 4  # bin, then label
    _RANKS = _CALIBRATION + 2 * CALIBRATION_BINS  # label, then bin
    size = _RANKS + 2 * PROBABILITY_BINS
    _LOSS, _SQUARE, _SCORES = range(3)  # from the last on, one sum per bin of calibration
    sums = _SCORES + CALIBRATION_BINS

    def __init__(self, threshold: float, costs: tuple[float, float], k: float) -> None:
        super().__init__()
        self._threshold, self._costs, self._k = threshold, costs, k

    def read(self, scores: Any, labels: Any) -> tuple[list[Array], Array, Array]:
        p, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
        return [y, p], (y == 0.0) | (y == 1.0), (p >= 0.0) & (p <= 1.0)

    def parts(self, columns: Sequence[Array]) -> Parts:
        y, p = columns
        one = y.astype(np.int64)
        tenth = np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        sure = np.clip(p, _SURE, 1.0 - _SURE)
        loss = -np.log(np.where(y == 1.0, sure, 1.0 - sure))
        return Parts(
            [
                self._CONFUSION + 2 * one + (p > self._threshold),
                self._CALIBRATION + 2 * tenth + one,
                self._RANKS + one * PROBABILITY_BINS + probability_bins(p),
            ],
            [(self._LOSS, loss), (self._SQUARE, (p - y) ** 2), (self._SCORES + tenth, p)],
        )

    def told(self, tally: Tally) -> Told:
        counts = tally.counts
        tn, fp, fn, tp = (counts[self._CONFUSION : self._CALIBRATION] / UNIT).tolist()
        count, positives = tn + fp + fn + tp, fn + tp
        units = int(counts[self._CONFUSION : self._CALIBRATION].sum())
        agreed = _over(tp + tn, count)
        chance = _over(positives * (tp + fp) + (tn + fp) * (tn + fn), count * count)
        loss = _mean(tally.sums[self._LOSS], units)
        scores = tally.sums[self._SCORES :]
        ones = counts[self._CALIBRATION + 1 : self._RANKS : 2].tolist()
        gaps = [abs(as_float(mine * UNIT - (seen << POINT))) for mine, seen in zip(scores, ones, strict=True)]
        ranks = counts[self._RANKS :].reshape(2, PROBABILITY_BINS) / UNIT
        return {
            "count": count,
            "unusable": float(counts[UNUSABLE] / UNIT),
            "positives": positives,
            "accuracy": agreed,
            "log_loss": loss,
            "normalised_entropy": _normalised(loss, _over(positives, count)),
            "brier": _mean(tally.sums[self._SQUARE], units),
            "precision": _over(tp, tp + fp),
            "recall": _over(tp, positives),
            "f1": _over(2 * tp, 2 * tp + fp + fn),
            "kappa": _beyond(agreed, chance),
            "kappa_temporal": _beyond(agreed, _stayed(counts)),
            "calibration_error": _over(sum(gaps), units),
            "calibration_ratio": _mean(sum(scores), sum(ones)),
            "cost": _over(self._costs[0] * fp + self._costs[1] * fn, count),
            "alert_rate": _over(tp + fp, count),
            **ranked(ranks[0], ranks[1], self._k),
        }


class _Anomaly(Measure):
    """Scores of any size, more for what is less usual, and whether it was an anomaly."""

    size = _COMMON + 2 * NUMBER_BINS
    ordered = False
    sums = 0

    def __init__(self, k: float) -> None:
        super().__init__()
        self._k = k

    def read(self, scores: Any, labels: Any) -> tuple[list[Array], Array, Array]:
        s, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
        return [y, s], (y == 0.0) | (y == 1.0), np.isfinite(s)

    def parts(self, columns: Sequence[Array]) -> Parts:
        y, s = columns
        return Parts([_COMMON + y.astype(np.int64) * NUMBER_BINS + number_bins(s)], [])

    def told(self, tally: Tally) -> Told:
        ranks = tally.counts[_COMMON:].reshape(2, NUMBER_BINS) / UNIT
        return {
            "count": float(ranks.sum()),
            "unusable": float(tally.counts[UNUSABLE] / UNIT),
            "positives": float(ranks[1].sum()),
            **ranked(ranks[0], ranks[1], self._k),
        }


class _Regression(Measure):
    """Numbers, and what they turned out to be."""

    size = _COMMON + 1
    ordered = False
    _ABSOLUTE, _SQUARE, _BIAS, _TRUE, _TRUE_SQUARE = range(5)
    sums = 5

    def read(self, scores: Any, labels: Any) -> tuple[list[Array], Array, Array]:
        p, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
        return [y, p], np.abs(y) <= VALUE_MAX, np.abs(p) <= VALUE_MAX

    def parts(self, columns: Sequence[Array]) -> Parts:
        y, p = columns
        off = p - y
        square, rest = _square(y)
        values: list[tuple[Ints | int, Floats]] = [
            (self._ABSOLUTE, np.abs(off)),
            (self._SQUARE, off * off),
            (self._BIAS, off),
            (self._TRUE, y),
            (self._TRUE_SQUARE, square),
            (self._TRUE_SQUARE, rest),
        ]
        return Parts([np.full(len(y), _COMMON)], values)

    def told(self, tally: Tally) -> Told:
        units = int(tally.counts[_COMMON])
        squares, total, of_true = (tally.sums[one] for one in (self._SQUARE, self._TRUE, self._TRUE_SQUARE))
        mse = _mean(squares, units)
        # Whole numbers throughout: the square of a mean is taken from a mean of squares, and nothing is lost.
        spread = (of_true * units << POINT) - total * total * UNIT
        return {
            "count": units / UNIT,
            "unusable": float(tally.counts[UNUSABLE] / UNIT),
            "mae": _mean(tally.sums[self._ABSOLUTE], units),
            "rmse": None if mse is None else mse**0.5,
            "r2": _r2(squares * units << POINT, spread),
            "bias": _mean(tally.sums[self._BIAS], units),
        }


class _Multiclass(Measure):
    """Classes, or a probability for each, and which it was."""

    size = _COMMON + 2  # rows without probabilities, and with
    sums = 1  # the loss of those that have some

    def __init__(self, classes_max: int) -> None:
        super().__init__()
        self._classes_max = classes_max

    def read(self, scores: Any, labels: Any) -> tuple[list[Array], Array, Array]:
        true = as_classes(labels)
        if isinstance(scores, Foretold):
            said, chances = as_classes(scores.said), chances_of(scores.chances, true)
            given = _there(said)
        elif isinstance(scores, Mapping):
            chances, given = chances_of(scores, true), given_in(scores, len(true))
            names = as_classes(scores)
            table = np.array([np.nan_to_num(scores[name], nan=-1.0) for name in scores]).reshape(len(names), len(true))
            said = names[table.argmax(axis=0)] if len(names) else np.full(len(true), None)
        elif isinstance(scores[0], Mapping):
            chances = np.array([row.get(one, 0.0) for row, one in zip(scores, true.tolist(), strict=True)], np.float64)
            said = as_classes([max(row, key=row.get) if row else None for row in scores])
            given = _there(said)
        else:
            said, chances = as_classes(scores), np.full(len(true), np.nan)
            given = _there(said)
        there = _there(true)
        return [*self._few(true, said, there), chances], there, given

    def _few(self, true: Array, said: Array, there: Array) -> tuple[Array, Array]:
        """Tell no more classes apart than there may be: the first ones, in the order in which they came."""
        pairs = list(zip(true.tolist(), said.tolist(), strict=True))
        met = dict.fromkeys(one for pair, known in zip(pairs, there.tolist(), strict=True) if known for one in pair)
        met.pop(None, None)
        if met.keys() <= self.known:
            return true, said
        for one in met:
            if len(self.known) < self._classes_max:
                self.known.add(one)
        if met.keys() <= self.known:
            return true, said
        # Two different classes beyond the limit are not the same because both are beyond it.
        right = [one if one in self.known else OTHER if one == label else None for label, one in pairs]
        return _objects([one if one in self.known else OTHER for one, _ in pairs]), _objects(right)

    def parts(self, columns: Sequence[Array]) -> Parts:
        true, said, chances = columns
        pairs = list(zip(true.tolist(), said.tolist(), strict=True))
        loss = -np.log(np.clip(chances, _SURE, 1.0 - _SURE))
        scored = np.isfinite(loss)
        return Parts([_COMMON + scored.astype(np.int64)], [(0, np.where(scored, loss, 0.0))], pairs)

    def told(self, tally: Tally) -> Told:
        units = sum(tally.pairs.values())
        rows, columns, right = Counter[Any](), Counter[Any](), Counter[Any]()
        for (true, said), many in tally.pairs.items():
            rows[true] += many
            columns[said] += many
            right[true] += many if true == said else 0
        agreed = _over(sum(right.values()), units)
        classes = rows.keys() | columns.keys()
        chance = _over(sum(rows[one] * columns[one] for one in classes), units * units)
        each = [2 * right[one] / (rows[one] + columns[one]) for one in sorted(classes, key=repr)]
        return {
            "count": units / UNIT,
            "unusable": float(tally.counts[UNUSABLE] / UNIT),
            "classes": float(len(rows)),
            "accuracy": agreed,
            "log_loss": _mean(tally.sums[0], int(tally.counts[_COMMON + 1])),
            "macro_f1": _over(sum(each), len(each)),
            "micro_f1": agreed,
            "kappa": _beyond(agreed, chance),
            "kappa_temporal": _beyond(agreed, _stayed(tally.counts)),
        }


def as_columns(scores: Any) -> Mapping[Any, Floats]:
    """Return the probabilities of each class as a column, also where they come as a dictionary per row.

    >>> as_columns([{"b": 1.0}, {"a": 0.25, "b": 0.75}, {}])
    {'a': array([ nan, 0.25,  nan]), 'b': array([1.  , 0.75,  nan])}
    """
    if isinstance(scores, Mapping):
        return scores
    names = sorted({name for row in scores for name in row}, key=repr)  # as no batch has an order of its own
    return {name: np.array([row.get(name, np.nan) for row in scores], np.float64) for name in names}


def given_in(scores: Mapping[Any, Floats], count: int) -> Array:
    """Say of each row whether it has a probability for any class."""
    given = np.zeros(count, bool)
    for column in scores.values():
        given |= np.isfinite(column)
    return given


def chances_of(scores: Mapping[Any, Floats], true: Array) -> Floats:
    """Return the probability that each true class was given: zero where the model has none for it."""
    row_of = {name: row for row, name in enumerate(as_classes(scores).tolist(), start=1)}
    table = np.zeros((1 + len(scores), len(true)))
    for row, column in enumerate(scores.values(), start=1):
        table[row] = np.nan_to_num(column)
    rows = np.array([row_of.get(one, 0) for one in true.tolist()], np.int64)
    made: Floats = table[rows, np.arange(len(true))]
    return made


def _square(values: Floats) -> tuple[Floats, Floats]:
    """Return the squares, and what rounding took from them (Dekker's product)."""
    split = values * 134_217_729.0
    high = split - (split - values)
    low = values - high
    square = values * values
    return square, ((high * high - square) + 2.0 * high * low) + low * low


def plain(value: Any) -> Any:
    """Return a class as it can be written down: equal ones are the same, and one that is missing is None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value  # noqa: PLR0124
    return value


def _objects(values: Sequence[Any]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def as_classes(values: Any) -> Array:
    """Return classes as they can be told apart and written down, and None for one that is missing."""
    listed: Iterable[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return _objects(list(map(plain, listed)))


def _there(classes: Array) -> Array:
    return np.array([one is not None for one in classes.tolist()], bool)


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _mean(total: int, units: int) -> float | None:
    return as_float(total * UNIT, units) if units > 0 else None


def _beyond(agreed: float | None, chance: float | None) -> float | None:
    """Return how far a rate is on its way from chance to one (the form of Cohen's kappa)."""
    return None if agreed is None or chance is None or chance == 1.0 else (agreed - chance) / (1.0 - chance)


def _stayed(counts: Ints) -> float | None:
    """Return how often a label is the same as the one before it."""
    return _over(float(counts[STAYED]), float(counts[CHANGED] + counts[STAYED]))


def _normalised(loss: float | None, rate: float | None) -> float | None:
    """Return the loss as a part of what it would be if all one knew was the rate."""
    if loss is None or rate is None or not 0.0 < rate < 1.0:
        return None
    return loss / -(rate * log(rate) + (1.0 - rate) * log(1.0 - rate))


def _r2(missed: int, spread: int) -> float | None:
    try:
        return 1.0 - missed / spread if spread > 0 else None
    except OverflowError:  # the labels are all but equal, and the scores are absurd
        return None
