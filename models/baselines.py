"""What can be foretold without a model: the label before, and what is usual."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.models.measures import CLASSES_MAX, VALUE_MAX, Kind, as_classes
from headrace.models.memory import Array, Floats


class Baselines:
    """The two that a model has to beat, as scores for a ``Quality`` of the same kind.

    ``last_class`` says that a label is the one that came before it. ``majority`` says of a multiclass label that it is
    the most frequent one, and of a binary one the share of ones so far, which is above one half where ones are more
    frequent. Of a number it is ``last_value`` and ``mean``. Both know every label that came before, also the one that
    came a moment ago, which no model can that had to score the event earlier: beating them is not made easy. The
    first label has nothing before it, and so a missing score. An anomaly detector has no baselines.

    >>> baselines = Baselines("binary")
    >>> told = baselines.step([1.0, 1.0, 0.0])
    >>> told["last_class"], told["majority"]
    (array([nan,  1.,  1.]), array([nan,  1.,  1.]))
    >>> baselines.step([1.0])["majority"].round(2)
    array([0.67])
    """

    def __init__(self, kind: Kind, *, classes_max: int = CLASSES_MAX) -> None:
        self.kind = kind
        self._classes_max = classes_max
        self._last: Any = None
        self._count = 0
        self._total = 0.0  # of numbers, or of ones
        self._classes: dict[Any, int] = {}
        self._majority: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the baselines are called."""
        if self.kind == "anomaly":
            return ()
        return ("last_value", "mean") if self.kind == "regression" else ("last_class", "majority")

    def step(self, labels: Any) -> dict[str, Array]:
        """Return what each baseline says of each label before it knows that one, and take the labels in, in order."""
        if self.kind == "anomaly":
            return {}
        made = self._classes_step(labels) if self.kind == "multiclass" else self._numbers_step(labels)
        return dict(zip(self.names, made, strict=True))

    def revise(self, old_labels: Any, new_labels: Any) -> None:
        """Correct what is usual. What was foretold already stays, and so does the last label."""
        if self.kind == "multiclass":
            for old, new in zip(as_classes(old_labels).tolist(), as_classes(new_labels).tolist(), strict=True):
                if old in self._classes and new is not None:
                    self._classes[old] -= 1
                    self._met(new)
            self._majority = max(self._classes, key=self._classes.__getitem__, default=None)
        elif self.kind != "anomaly":
            old, new = np.asarray(old_labels, np.float64), np.asarray(new_labels, np.float64)
            both = self._usable(old) & self._usable(new)
            for change in (new[both] - old[both]).tolist():
                self._total += change

    def _usable(self, labels: Floats) -> Array:
        binary = self.kind == "binary"
        usable: Array = (labels == 0.0) | (labels == 1.0) if binary else np.abs(labels) <= VALUE_MAX
        return usable

    def _numbers_step(self, labels: Any) -> list[Array]:
        given = np.asarray(labels, np.float64)
        usable = self._usable(given)
        y = given[usable]
        # Each is added to what came before it, one after the other, whatever the batch.
        totals = np.cumsum(np.concatenate([[self._total], y]))
        counts = self._count + np.arange(len(y))
        last, usual = np.full((2, len(given)), np.nan)
        if len(y):
            last[usable] = np.concatenate([[np.nan if self._last is None else self._last], y[:-1]])
            with np.errstate(invalid="ignore"):
                usual[usable] = totals[:-1] / np.where(counts > 0, counts, np.nan)
            self._last, self._count, self._total = float(y[-1]), self._count + len(y), float(totals[-1])
        return [last, usual]

    def _classes_step(self, labels: Any) -> list[Array]:
        true = as_classes(labels)
        last, usual = np.full((2, len(true)), None)
        for row, label in enumerate(true.tolist()):
            last[row], usual[row] = self._last, self._majority
            if label is None:
                continue
            self._last = label
            if self._met(label) and (self._majority is None or self._classes[label] > self._classes[self._majority]):
                self._majority = label
        return [last, usual]

    def _met(self, label: Any) -> bool:
        """Count a class, unless it is one too many; say whether it was counted."""
        if label not in self._classes and len(self._classes) >= self._classes_max:
            return False
        self._classes[label] = self._classes.get(label, 0) + 1
        return True

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "last": self._last,
            "count": self._count,
            "total": self._total,
            "classes": [[one, count] for one, count in self._classes.items()],
            "majority": self._majority,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._last, self._count, self._total = data["last"], data["count"], data["total"]
        self._classes = dict(data["classes"])
        self._majority = data["majority"]
