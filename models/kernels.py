"""Models that the compiled kernel knows, as learners: a batch per call, and River's results to the last bit."""

import errno
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.models.memory import Floats
from headrace.models.recipes import Learned, Recipe
from headrace.models.rows import Classes, Columns, Engine, Kind, RowFailed, thawed

try:
    from headrace.models import _kernel
except ImportError:  # there was no compiler where this was installed
    _kernel = None  # type: ignore[assignment]


class Kernel:
    """The arithmetic of a known model, compiled: what was learned is in arrays, and a call takes a batch.

    Columns may come, go and change places between calls, as they may with River: what was learned of a feature
    stays with its name.
    """

    engine: Engine = "kernel"

    def __init__(self, recipe: Recipe) -> None:
        self.kind: Kind = recipe.kind
        self._recipe = recipe
        self._take(Learned((), 0, recipe.intercept, np.repeat(recipe.blank, 0, axis=1)))

    def __repr__(self) -> str:
        return f"<Kernel of {self._recipe.steps}: {self.kind}, {self.seen} seen>"

    def _take(self, learned: Learned) -> None:
        self._known = learned.names  # of features, in the order in which they were first learned
        self._places = learned.names  # of the state's columns
        self._given = learned.names  # of the columns that the last call came with: the first of the places
        self._scalars = np.array([learned.intercept, learned.seen], np.float64)
        self._state = np.array(learned.state, np.float64, order="C")

    @property
    def seen(self) -> int:
        """How many rows it has learned."""
        return int(self._scalars[1])

    def predict(self, columns: Columns) -> Floats:
        """Return a score per row; nothing changes."""
        scores = np.empty(len(next(iter(columns.values()))) if columns else 0)
        self._run(columns, None, scores)
        return scores

    def learn(self, columns: Columns, labels: Floats) -> None:
        """Learn row by row; a label that is NaN is none."""
        self._run(columns, labels, None)

    def predict_learn(self, columns: Columns, labels: Floats) -> Floats:
        """Predict each row, then learn it, before the next one is predicted."""
        scores = np.empty(len(labels))
        self._run(columns, labels, scores)
        return scores

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute: it can."""
        return ""

    def contributions(self, columns: Columns) -> Floats:
        """Return what each column contributes to a row's raw score, and in the last column the intercept."""
        return self._recipe.contributions(self._learned(), columns)

    def predict_classes(self, columns: Columns) -> list[Classes]:
        """Return the probability of each class, per row."""
        assert self.kind == "binary", "a regression has no classes"
        return [{False: 1.0 - score, True: score} for score in self.predict(columns).tolist()]

    def predict_learn_classes(self, columns: Columns, labels: Floats) -> list[Classes]:
        """Predict the classes of each row, then learn it."""
        assert self.kind == "binary", "a regression has no classes"
        return [{False: 1.0 - score, True: score} for score in self.predict_learn(columns, labels).tolist()]

    def _run(self, columns: Columns, labels: Floats | None, scores: Floats | None) -> None:
        names = tuple(columns)
        if names != self._given:
            self._arrange(names)
        held, rows = tuple(columns.values()), len(labels if scores is None else scores)  # type: ignore[arg-type]
        settings, scalars, state = self._recipe.settings, self._scalars, self._state
        try:
            failed = _kernel.run(settings, scalars, state, held, labels, scores, rows)
        except TypeError:  # before anything was done: a column is not of float64
            held = tuple(np.asarray(column, np.float64) for column in held)
            labels = None if labels is None else np.asarray(labels, np.float64)
            failed = _kernel.run(settings, scalars, state, held, labels, scores, rows)
        if len(self._known) != len(self._places) and labels is not None and not np.isnan(labels).all():
            self._known += tuple(name for name in self._given if name not in self._known)
        if failed >= 0:
            raised = OverflowError(errno.ERANGE, os.strerror(errno.ERANGE))
            raise RowFailed(failed, raised, [] if scores is None else scores[: failed + 1].tolist()) from raised

    def _arrange(self, names: tuple[str, ...]) -> None:
        """Give each name its place, those that come with the calls first."""
        learned = self._learned()
        self._places = names + tuple(name for name in learned.names if name not in names)
        self._given = names
        self._state = np.repeat(self._recipe.blank, len(self._places), axis=1)
        self._state[:, [self._places.index(name) for name in learned.names]] = learned.state

    def _learned(self) -> Learned:
        state = self._state
        if self._places != self._known:
            state = state[:, [self._places.index(name) for name in self._known]]
        return Learned(self._known, self.seen, float(self._scalars[0]), state)

    def dump(self) -> dict[str, Any]:
        """Return all that was learned as plain data."""
        return self._recipe.dumped(self._learned())

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned, of whichever engine."""
        if "river" in data:
            self._take(self._recipe.taken(thawed(data["river"]), data["seen"]))
        else:
            self._take(self._recipe.loaded(data))


def compiled() -> bool:
    """Say whether there is a kernel."""
    return _kernel is not None
