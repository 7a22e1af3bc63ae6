"""What keeps something for every key, and what a feature wants of it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from headrace.models.memory import Array, Columns, Entries, Floats, Ints, Measure
from headrace.schemas.span import DAY

ENTRIES_MAX = 4_096  # per key and window length
NOBODY: Ints = np.empty(0, np.int64)


class Fields(Protocol):
    """The fields of a batch as columns, or a part of one."""

    def __getitem__(self, name: str) -> Array:
        """Return a column of numbers, or of objects."""


class Wanted:
    """A number that a feature needs of its key's past. Equal ones are kept once."""

    @property
    def kept_by(self) -> tuple[Any, ...]:
        """What can be kept together."""
        raise NotImplementedError

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that it needs: the one that it is of, if it is of one."""
        field: str = getattr(self, "field", "")
        return (field,) if field else ()

    def keeper(self, all_of_them: Sequence[Any]) -> "Keeper":
        """Make what keeps these, which have ``kept_by`` in common."""
        raise NotImplementedError


class Keeper:
    """Keeps something for every row of a table.

    ``step`` gets a round of events, of which no two have the same row, or any events where the keeper takes them
    in order. It returns what was kept *before* each, one column for each that is wanted, and takes them in. It
    works element by element, so where a batch is cut cannot show.
    """

    measures: Mapping[str, Measure] = MappingProxyType({})
    horizon = 30 * DAY  # a row that nothing happened to for so long may be forgotten

    def __init__(self) -> None:
        self.columns = Columns(self.measures)
        self.entries: Entries | None = None
        self.late = 0  # events that came too late to be remembered
        self.missed: Ints = NOBODY  # the places in the last round of those that did

    def step(self, rows: Ints, at: Floats, fields: Fields) -> list[Array]:
        """Return what was wanted, as it was before these events, and take them in."""
        raise NotImplementedError

    def grow(self, count: int) -> None:
        """Make room for so many rows."""
        self.columns.grow(count)
        if self.entries is not None:
            self.entries.grow(count)

    def forget(self, rows: Sequence[int]) -> None:
        """Set rows back to what they are before anything happened."""
        self.columns.reset(rows)
        if self.entries is not None:
            self.entries.forget(rows)

    def dump(self, count: int) -> dict[str, Any]:
        """Return the first rows as plain data."""
        entries = None if self.entries is None else self.entries.dump(count)
        return {"columns": self.columns.dump(count), "entries": entries, "late": self.late}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.columns.load(data["columns"])
        if self.entries is not None:
            self.entries.load(data["entries"])
        self.late = data["late"]

    @property
    def in_order(self) -> bool:
        """Say whether it takes events one after the other, so that a row may come more than once."""
        return False

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return self.columns.bytes + (0 if self.entries is None else self.entries.bytes)
