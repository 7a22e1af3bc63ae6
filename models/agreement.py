"""The kernel beside River: the same rows to both, and every bit compared."""

import math
import random
from collections.abc import Callable, Iterable

import numpy as np
from river import base

from headrace.models.kernels import Kernel, compiled
from headrace.models.memory import Floats
from headrace.models.recipes import Recipe
from headrace.models.rows import Columns, Kind, Learner, RowFailed, Rows

CHECK_ROWS = 192


def some_rows(seed: int, count: int, kind: Kind, *, wild: bool = False) -> tuple[dict[str, Floats], Floats]:
    """Return columns of every sort with labels, of which one in eight is missing."""
    rng = random.Random(seed)  # noqa: S311 - a check must be able to repeat itself
    odd = (math.inf, -math.inf, math.nan, 1e300, -1e300, 1e160, 1e-160, 5e-324, -0.0)
    draws: dict[str, Callable[[], float]] = {
        "amount": lambda: round(rng.lognormvariate(3, 2), 2),
        "flag": lambda: float(rng.random() < 0.2),
        "constant": lambda: 0.1,
        "small": lambda: rng.gauss(0, 1e-9),
        "large": lambda: rng.uniform(-1e12, 1e12),
        "count": lambda: float(rng.randrange(4)),
        "nothing": lambda: 0.0,
        "odd": lambda: rng.choice(odd) if wild and rng.random() < 0.05 else rng.gauss(-5, 1),
    }
    names = rng.sample(list(draws), k=rng.randint(1, len(draws)))
    columns = {name: np.array([draws[name]() for _ in range(count)], np.float64) for name in names}
    labels = [float(rng.random() < 0.3) if kind == "binary" else rng.gauss(10, 5) for _ in range(count)]
    return columns, np.array([math.nan if rng.random() < 0.125 else label for label in labels], np.float64)


def follow(learner: Learner, columns: Columns, labels: Floats, cuts: Iterable[int]) -> tuple[bytes, list[int]]:
    """Predict and learn rows in batches, going on behind each that fails; return the scores' bits and what failed."""
    made, failed = [], []
    begin, ends = 0, [*sorted(cuts), len(labels)]
    while begin < len(labels):
        end = min(end for end in ends if end > begin)
        part = {name: column[begin:end] for name, column in columns.items()}
        try:
            made.append(learner.predict_learn(part, labels[begin:end]))
            begin = end
        except RowFailed as failure:
            made.append(failure.scores)
            failed.append(begin + failure.row)
            begin += failure.row + 1
    return _bits(np.concatenate([*made, np.empty(0)])), failed


def _bits(numbers: Floats) -> bytes:
    # Which NaN it is depends on the order of two operands, which compilers choose.
    return np.where(np.isnan(numbers), np.nan, numbers).tobytes()


def same_state(one: Learner, other: Learner) -> bool:
    """Say whether two learners of a model that the kernel knows have learned the same, to the last bit."""
    mine, theirs = one.dump(), other.dump()
    same = mine.keys() == theirs.keys()
    for key in mine.keys() & theirs.keys():
        if key in ("state", "intercept"):
            same &= _bits(np.asarray(mine[key])) == _bits(np.asarray(theirs[key]))
        else:
            same &= mine[key] == theirs[key]
    return same


_checked: dict[tuple[str, bytes, float], str] = {}


def why_no_kernel(recipe: Recipe, fresh: base.Estimator) -> str:
    """Say why the kernel is not used for a model that it knows, or nothing.

    It is compiled on one machine and used with the River of another, so before its first use for a model it shows
    in this very process that its results are River's.
    """
    if not compiled():
        return "headrace.models._kernel was not compiled when Headrace was installed"
    key = recipe.steps, recipe.settings.tobytes(), recipe.intercept
    if key not in _checked:
        kernel, rows = Kernel(recipe), Rows(fresh, recipe.kind, recipe)
        columns, labels = some_rows(len(recipe.steps), CHECK_ROWS, recipe.kind)
        try:
            got, want = (follow(one, columns, labels, [CHECK_ROWS // 3]) for one in (kernel, rows))
            same = got == want and same_state(kernel, rows)
            _checked[key] = "" if same else "its results are not those of the River that is installed"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, River is there
            _checked[key] = f"the kernel fails where River does not: {error!r}"
    return _checked[key]
