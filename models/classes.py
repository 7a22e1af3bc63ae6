"""The classes that labels have named in one partition, and what a learner says of them, as columns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace.models.measures import CLASSES_MAX, Foretold, plain
from headrace.models.memory import Array, Floats

WHOLE_MAX = 1 << 53  # beyond it two whole numbers can be the same float

Class = int | str


class Taken(NamedTuple):
    """Labels as numbers, NaN where there is none, and which of them cannot be."""

    numbers: Floats
    wrong: Array  # it is no class at all, or one too many
    new: list[Class]  # the classes that nobody had named before


class Classes:
    """The classes of one partition, the one that was named first in front: there are no more than a hundred.

    Whatever keeps labels keeps numbers. A class that is a whole number is itself; one that is text is its place here,
    and a learner learns that.

    >>> classes = Classes(text=True)
    >>> classes.take(["no", "yes", None, "no"]).numbers
    array([ 0.,  1., nan,  0.])
    >>> classes.named(np.array([1.0, np.nan]))
    ['yes', None]
    >>> classes.rows([{1: 0.75, 0: 0.25}, {}])
    array([[0.75, 1.  , 0.25, 0.75],
           [0.  ,  nan, 0.  , 0.  ]])
    """

    def __init__(self, *, text: bool, first: str | None = None, classes_max: int = CLASSES_MAX) -> None:
        self.text = text
        self.names: list[Class] = []
        self._numbers: dict[Class, int] = {}
        self._classes_max = classes_max
        if first is not None:
            self.meet([first])

    def __len__(self) -> int:
        return len(self.names)

    def take(self, labels: Sequence[Any]) -> Taken:
        """Return labels as numbers, in their order, and meet the classes that are new."""
        known, before = self._numbers, len(self.names)
        numbers = np.full(len(labels), np.nan)
        wrong = np.zeros(len(labels), np.bool_)
        for place, label in enumerate(map(plain, labels)):
            if label is None:
                continue
            if label not in known:
                if not self._can_be(label) or self.full:
                    wrong[place] = True
                    continue
                self.meet([label])
            numbers[place] = known[label]
        return Taken(numbers, wrong, self.names[before:])

    @property
    def full(self) -> bool:
        """Say whether there is no room for another class."""
        return len(self.names) >= self._classes_max

    def _can_be(self, label: Any) -> bool:
        return self.text or (isinstance(label, int) and abs(label) < WHOLE_MAX)

    def meet(self, names: Sequence[Class]) -> None:
        """Take in classes that nobody had named before."""
        for name in names:
            if name in self._numbers:
                continue
            self._numbers[name] = len(self.names) if self.text else int(name)
            self.names.append(name)

    def named(self, numbers: Floats) -> list[Class | None]:
        """Return the classes that these numbers stand for, and None for NaN."""
        of = self.names.__getitem__ if self.text else int
        return [None if number != number else of(int(number)) for number in numbers.tolist()]  # noqa: PLR0124

    def rows(self, said: Sequence[Mapping[Any, float]]) -> Floats:
        """Return what a learner says of events: how likely the likeliest class is, which, and how likely each is.

        Of two that are equally likely it is the one that River takes, which is the model's own first. A learner that
        knows no class says none, and that with a chance of zero.
        """
        columns = self._numbers.values()
        made = np.empty((len(said), 2 + len(columns)))
        for row, chances in enumerate(said):
            best = max(chances, key=chances.__getitem__, default=None)
            made[row, 0], made[row, 1] = (0.0, np.nan) if best is None else (chances[best], best)
            made[row, 2:] = [chances.get(one, 0.0) for one in columns]
        return made

    def foretold(self, said: Floats, chances: Array) -> Foretold:
        """Return what was said of events as it is judged: a column may be missing, of a class that came later."""
        return Foretold(self.named(said), dict(zip(self.names, chances.T, strict=False)))

    def dump(self) -> list[Class]:
        """Return all of it as plain data."""
        return list(self.names)

    def load(self, names: Sequence[Class]) -> None:
        """Take what ``dump`` returned."""
        self.names, self._numbers = [], {}
        self.meet(names)
