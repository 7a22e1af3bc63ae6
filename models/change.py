"""What a step took in, as plain data: with it, and the state before it, the state after it is made again."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from headrace.models.memory import Array

INTEGER_MAX = 2**63  # what a snapshot can hold is smaller


class Remembered(Protocol):
    """The fields of a batch: as columns of numbers or objects, and as they are."""

    @property
    def count(self) -> int:
        """How many events there are."""

    def __getitem__(self, name: str) -> Array:
        """Return a field as a column."""

    def raw(self, name: str) -> list[Any]:
        """Return a field's values as they are."""


def delta(fields: Sequence[str], remembered: Remembered, exact: Container[str] = ()) -> dict[str, Any]:
    """Return what a step took in, as plain data: the fields that the state reads, of each event.

    Of the ``exact`` ones the values themselves are told; what is a number elsewhere is read as a float only.
    """
    columns: dict[str, Any] = {}
    objects = []
    for name in fields:
        column = remembered[name]
        if column.dtype == object:
            objects.append(name)
            columns[name] = remembered.raw(name)
        elif name not in exact or set(map(type, raw := remembered.raw(name))) <= {float}:
            columns[name] = column
        else:
            # Whole numbers and what is missing may be a part of a key, and would not be the same as floats.
            columns[name] = list(map(_small, raw)) if (np.abs(column) >= INTEGER_MAX).any() else raw
    return {"count": remembered.count, "columns": columns, "objects": objects}


def _small(value: Any) -> Any:
    """Return the value as it can be encoded; a number so large that it cannot be is no key, and read as a float."""
    return value if value is None or abs(value) < INTEGER_MAX else float(value)


class Delta:
    """What a step took in, as it was read from a changelog.

    >>> columns = {"card": ["a", "b"], "at": np.array([1.0, 2.0])}
    >>> delta = Delta({"count": 2, "columns": columns, "objects": ["card"]})
    >>> delta.count, delta.raw("card"), delta["at"]
    (2, ['a', 'b'], array([1., 2.]))
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.count: int = data["count"]
        self._raw: dict[str, Any] = data["columns"]
        self._objects = frozenset(data["objects"])
        self._columns: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        """Return a field as a column."""
        column = self._columns.get(name)
        if column is None:
            held = self._raw[name]
            if isinstance(held, np.ndarray):
                column = np.require(held, requirements="A")  # in a record it lies where it happens to
            elif name in self._objects:
                column = np.empty(self.count, object)
                column[:] = held
            else:
                column = np.array([np.nan if value is None else value for value in held], np.float64)
            self._columns[name] = column
        return column

    def raw(self, name: str) -> list[Any]:
        """Return a field's values as they are."""
        held = self._raw[name]
        return held.tolist() if isinstance(held, np.ndarray) else list(held)
