"""How much labels may teach: so many in a while, of each source so many, and nothing that is too far out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.models.features import parts
from headrace.models.memory import Floats
from headrace.schemas.event import Event, columns_of, type_name
from headrace.schemas.outcome import Withheld
from headrace.schemas.span import rate

SOURCES_MAX = 100_000  # that are told apart in one span; another one teaches nothing before the next
BLOCK = 256  # rows that taught, by which it is known how far out a feature usually is
DEVIATION = 1.4826  # of a normal distribution, in median distances from the median
LARGE = 1e18  # no feature that teaches is larger


@dataclass(frozen=True)
class Limits:
    """What labels may teach at the most; the rest is told and counts for quality, and teaches nothing.

    ``learn_max`` is for all labels of a partition together, as in ``"1000 per minute"``. ``source_max`` is for those
    with the same value in the field ``source`` of the label's class, which may be its key. Spans begin at whole
    multiples of their length, by when the labels' records were written; that time never goes back. What teaches because
    time is up is nobody's label, and not counted.

    ``clip`` is how many scaled deviations from the median a feature may be when it teaches: what is further out is
    taken for so far out. Both are those of the last full 256 rows that taught.

    >>> Limits(learn_max="1000 per minute", source="said_by", source_max="10 per hour", clip=8.0).learn_max
    '1000 per minute'
    """

    learn_max: str = ""
    source: str = ""
    source_max: str = ""
    clip: float | None = None

    def problems(self, labels: type[Event] | None) -> Iterator[str]:
        """Yield what is wrong with it, and with the labels that it is about."""
        if labels is None:
            yield "limits: they are of labels that have a topic of their own, and there are none"
            return
        if not (self.learn_max or self.source_max or self.clip is not None):
            yield "limits: nothing is limited; set learn_max, source_max or clip"
        for name in ("learn_max", "source_max"):
            if said := getattr(self, name):
                try:
                    rate(said)
                except ValueError as error:
                    yield f"limits: {name}: {error}"
        if bool(self.source) != bool(self.source_max):
            yield f"limits: source={self.source!r} and source_max={self.source_max!r} belong together"
        if self.source and self.source not in (fields := columns_of(labels)):
            yield f"limits: source={self.source!r} is no field of {labels.__name__}; there are {', '.join(fields)}"
        elif self.source and not set(parts(fields[self.source])) <= {str, int, type(None)}:
            yield (
                f"limits: source={self.source!r}: {labels.__name__}.{self.source} is "
                f"{type_name(fields[self.source])}; allowed are str, int and None"
            )
        if self.clip is not None and not 0.0 < self.clip < float("inf"):
            yield f"limits: clip={self.clip}: allowed are positive numbers of deviations"


class Quota:
    """How many may teach in one span of time, and how many have.

    >>> quota = Quota("2 per minute")
    >>> [quota.takes(at, "s") for at in (0.0, 1.0, 2.0, 60.0)]
    [True, True, False, True]
    """

    def __init__(self, said: str) -> None:
        self.most, self.span = rate(said)
        self.number = -np.inf  # of the span that it is
        self.counts: dict[Any, int] = {}

    def takes(self, now: float, source: Any) -> bool:
        """Say whether there is room for one more, without counting it: the other quota may have none."""
        number = now // self.span
        if number > self.number:
            self.number, self.counts = number, {}
        count = self.counts.get(source)
        if count is None:
            if len(self.counts) >= SOURCES_MAX:
                return False
            count = self.counts[source] = 0
        if count >= self.most:
            return False
        self.counts[source] = count + 1
        return True

    def give_back(self, source: Any) -> None:
        """One that was counted does not teach after all."""
        self.counts[source] -= 1

    def dump(self) -> list[Any]:
        """Return all of it as plain data."""
        return [self.number, [[source, count] for source, count in self.counts.items()]]

    def load(self, data: Sequence[Any]) -> None:
        """Take what ``dump`` returned."""
        self.number, self.counts = data[0], dict(data[1])


class Limiter:
    """Limits at work on one partition."""

    def __init__(self, limits: Limits, features: int) -> None:
        self.fingerprint = f"{limits} {features}"
        self._whole = Quota(limits.learn_max) if limits.learn_max else None
        self._each = Quota(limits.source_max) if limits.source_max else None
        self._clip = limits.clip
        self._now = -np.inf
        self._rows = np.zeros((BLOCK, features if limits.clip is not None else 0))
        self._row_count = 0  # of the block that is not full yet
        self._low, self._high = np.full((2, self._rows.shape[1]), np.inf)
        self._low = -self._low
        self.counts: Counter[str] = Counter()

    def allow(self, wrote: Floats, sources: Sequence[Any]) -> list[Withheld | None]:
        """Say of labels, in their order, what keeps each from teaching; NaN is when nobody wrote it."""
        made: list[Withheld | None] = [None] * len(wrote)
        if self._whole is None and self._each is None:
            return made
        for place, at in enumerate(wrote.tolist()):
            if at != at:  # noqa: PLR0124 - NaN is not
                continue
            now = self._now = max(self._now, at)
            source = sources[place] if self._each is not None else None
            if self._each is not None and not self._each.takes(now, source):
                made[place] = Withheld.SOURCE
            elif self._whole is not None and not self._whole.takes(now, None):
                made[place] = Withheld.LIMIT
                if self._each is not None:
                    self._each.give_back(source)
        self.counts.update(one.value for one in made if one is not None)
        return made

    def clipped(self, features: Floats) -> Floats:
        """Return rows that teach, with what is too far out brought in."""
        if self._clip is None:
            return features
        sound = np.flatnonzero((np.abs(features) <= LARGE).all(axis=1))  # the others teach nothing
        rows, done = features[sound], 0
        while done < len(rows):
            part = rows[done : done + BLOCK - self._row_count]
            inside = np.clip(part, self._low, self._high)
            self.counts["clipped"] += int((inside != part).any(axis=1).sum())
            part[:] = inside
            self._rows[self._row_count : self._row_count + len(part)] = inside
            self._row_count += len(part)
            done += len(part)
            if self._row_count == BLOCK:
                self._measure(self._clip)
        made = features.copy()
        made[sound] = rows
        return made

    def _measure(self, clip: float) -> None:
        """Find out how far out is too far, by a block that is full."""
        middle = np.median(self._rows, axis=0)
        usual = DEVIATION * np.median(np.abs(self._rows - middle), axis=0)
        # What is mostly the same has no usual distance; and what always is may be anything next.
        usual = np.where(usual > 0.0, usual, np.std(self._rows, axis=0))
        far = np.where(usual > 0.0, clip * usual, np.inf)
        self._low, self._high, self._row_count = middle - far, middle + far, 0

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "fingerprint": self.fingerprint,
            "quotas": [None if one is None else one.dump() for one in (self._whole, self._each)],
            "now": self._now,
            "rows": self._rows[: self._row_count].copy(),
            "bounds": np.stack([self._low, self._high]),
            "counts": dict(self.counts),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned; of other limits nothing."""
        if data["fingerprint"] != self.fingerprint:
            return
        for one, held in zip((self._whole, self._each), data["quotas"], strict=True):
            if one is not None:
                one.load(held)
        self._now, self.counts = data["now"], Counter(data["counts"])
        self._row_count = len(data["rows"])
        self._rows[: self._row_count] = data["rows"]
        self._low, self._high = data["bounds"].copy()
