"""What happens in the worlds of the examples, as the demo plays it: half of it as usual, and then the world changes.

It may stay as it is as well, or change for a quarter of the time and be again what it was. Time is compressed: events
come at a steady rate, and labels between them by their times.
"""

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import accumulate, count
from typing import Any, Literal, NamedTuple

DAY_SECONDS = 86_400
CHANGES, PASSES = 1 / 2, 3 / 4  # of the events that are planned: when the world changes, and when that passes

Course = Literal["changes", "stays", "passes"]
Phase = Literal["before", "after", "again"]  # of the change, and when the world is again what it was


class Show(NamedTuple):
    """Events and labels in the order of their times, each with its topic, and what a person is told of them."""

    records: Iterator[tuple[str, dict[str, Any]]]
    events: str  # topic
    labels: str  # topic
    key: str  # field of both
    begins_at: float  # before the first of them
    changes_at: float  # in the time of events; endless, if it does not
    passes_at: float  # and when the world is again what it was
    change: str  # what changes then
    delay: str  # how long labels take
    times: tuple[str, ...] = ("at",)  # fields of records

    def phase(self, at: float) -> Phase:
        """Say in which part of the story a time lies."""
        return "again" if at >= self.passes_at else "after" if at >= self.changes_at else "before"

    def told(self, phase: Phase) -> str:
        """Return what a person is told when it begins."""
        return "The world is again what it was." if phase == "again" else f"The world changes: {self.change}."

    def moved(self, seconds: float) -> "Show":
        """Return the same at other times.

        >>> later = fraud(100).moved(DAY_SECONDS)
        >>> next(later.records)[1]["at"] - next(fraud(100).records)[1]["at"], later.changes_at - fraud(100).changes_at
        (86400.0, 86400.0)
        """

        def moved(record: dict[str, Any]) -> dict[str, Any]:
            return record | {name: round(record[name] + seconds, 3) for name in self.times if name in record}

        return self._replace(
            records=((topic, moved(record)) for topic, record in self.records),
            begins_at=self.begins_at + seconds,
            changes_at=self.changes_at + seconds,
            passes_at=self.passes_at + seconds,
        )


def fraud(events: int, course: Course = "changes") -> Show:
    """Return payments, planned for so many.

    With 300 customers a week of them is 4,000, so that 2,000 in a second make two seconds of a week.
    """
    made = import_module("headrace.examples.fraud.generator")
    settings: dict[str, Any] = {"customers": 300, "terminals": 600, "compromised_a_day": 0, "leaked_a_day": 1}
    usual, changed = made.World(**settings), made.World(**settings, way="small")
    days_planned = events / usual.payments_a_day.sum()
    change_day = math.inf if course == "stays" else max(1, round(CHANGES * days_planned))
    pass_day = max(change_day + 1, round(PASSES * days_planned)) if course == "passes" else math.inf
    days = ((changed if change_day <= number < pass_day else usual).day(number) for number in count())
    return Show(
        made.as_they_come(days),
        "transactions",
        "labels",
        "card",
        usual.started_at,
        usual.started_at + change_day * made.DAY_SECONDS,
        usual.started_at + pass_day * made.DAY_SECONDS,
        "who has a stolen card pays small round amounts anywhere, and large amounts are honest",
        "seven days later, in the time of payments",
    )


def ctr(events: int, course: Course = "changes") -> Show:
    """Return impressions, planned for so many.

    A thousand users see some 3,000 in half an hour, so that 2,000 in a second make a second and a half of it.
    """
    made = import_module("headrace.examples.ctr.generator")
    usual, changed = made.World(), made.World(season="other")
    begin = 9  # o'clock: by night there is less to see
    reached = enumerate(accumulate(len(usual.hour(number).at) for number in count(begin)), begin + 1)

    def hour_of(share: float) -> int:  # each is later than the one before, because the sums are gone through once
        return next(number for number, sum_ in reached if sum_ >= share * events)

    change_hour = math.inf if course == "stays" else hour_of(CHANGES)
    pass_hour = hour_of(PASSES) if course == "passes" else math.inf
    hours = ((changed if change_hour <= number < pass_hour else usual).hour(number) for number in count(begin))
    return Show(
        made.as_they_come(hours),
        "impressions",
        "clicks",
        "user",
        usual.started_at,
        usual.started_at + change_hour * made.HOUR_SECONDS,
        usual.started_at + pass_hour * made.HOUR_SECONDS,
        "what appealed to everybody bores them, and the page lies on its side",
        "within half an hour, in the time of impressions, or never",
        ("at", "published"),
    )


def days_after(at: float, begins: float) -> int:
    """Return by how many days times move, so that what begins then comes after what was.

    >>> days_after(float("-inf"), begins=100.0), days_after(50.0, begins=100.0)
    (0, 0)
    >>> days_after(100.0, begins=100.0), days_after(100.0 + 3 * 86_400, begins=100.0)
    (1, 4)
    """
    return 0 if at < begins else 1 + math.floor((at - begins) / DAY_SECONDS)


SHOWS: dict[str, Callable[[int, Course], Show]] = {"ctr": ctr, "fraud": fraud}
