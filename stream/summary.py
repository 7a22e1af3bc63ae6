"""What a person is told at the end about what was not scored."""

from collections import Counter
from collections.abc import Iterator

from headrace.schemas.dead_letter import Reason, Rejection

EXAMPLES = 3  # of each reason
MESSAGE_LENGTH_MAX = 200


class Rejections:
    r"""Counts rejections by their reason, and keeps the first of each.

    >>> rejections = Rejections()
    >>> for row in range(1, 6):
    ...     rejections.add(f"row {row}", Rejection(0, Reason.EMPTY_VALUE, "the record has no value"))
    >>> print("\n".join(rejections.lines()))
    empty_value: 5
      row 1: the record has no value
      row 2: the record has no value
      row 3: the record has no value
    """

    def __init__(self) -> None:
        self._reasons: Counter[Reason] = Counter()
        self._examples: list[tuple[str, Rejection]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return self._reasons.total()

    def add(self, place: str, rejection: Rejection) -> None:
        """Count one; ``place`` says to a person where it was."""
        self._reasons[rejection.reason] += 1
        if self._reasons[rejection.reason] <= EXAMPLES:
            self._examples.append((place, rejection))

    def lines(self, *, examples: bool = True) -> Iterator[str]:
        """Yield each reason with its count, the most frequent first, and the examples below it."""
        for reason, count in self._reasons.most_common():
            yield f"{reason}: {count:,}"
            if examples:
                told = [(place, one.message) for place, one in self._examples if one.reason is reason]
                yield from (f"  {place}: {message[:MESSAGE_LENGTH_MAX]}" for place, message in told)
