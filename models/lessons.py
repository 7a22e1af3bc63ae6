"""What becomes known of events, on its way from those that scored them to the one learner of the whole stream."""

from collections.abc import Iterator
from typing import NamedTuple

from headrace.models.labels import Id, Scored
from headrace.models.memory import Array, Floats


class Version(NamedTuple):
    """Which learner it is: when the first lesson that it learned was written, and how many it has learned.

    A learner has learned the first so many lessons of its stream, so this says all about it. One that had to begin
    anew is newer than any before it, though it has learned less.

    >>> Version(1.7e9, 3) < Version(1.7e9, 40) < Version(1.8e9, 1)
    True
    """

    born: float
    lessons: int


UNTAUGHT = Version(0.0, 0)


class Lessons(NamedTuple):
    """What was true of events, with the features that they had when they were scored: a row for each."""

    ids: list[Id]
    features: Array
    labels: Floats
    at: Floats  # when it became true

    @classmethod
    def of(cls, scored: Scored, labels: Floats, at: Floats) -> "Lessons":
        """Return what is to be learned from events that were scored."""
        return cls(scored.ids, scored.features.copy(), labels.copy(), at.copy())

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.labels)

    def halves(self) -> "Iterator[Lessons]":
        """Yield the first half and the second: a record may weigh only so much."""
        middle = self.size // 2
        for some in (slice(0, middle), slice(middle, self.size)):
            yield Lessons._make(column[some] for column in self)
