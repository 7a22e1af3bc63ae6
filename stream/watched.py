"""How far every series that is watched is from what is usual, also while nothing is alarmed: what the page shows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.models import snapshot
from headrace.models.beginning import Beginning
from headrace.models.bins import Bins
from headrace.models.distances import VALUES_MIN, jensen_shannon, psi, shares
from headrace.models.memory import Ints
from headrace.models.reference import Reference
from headrace.models.settling import LEARN_SLICES_MAX
from headrace.models.watch import Counted, Watch, kind_of
from headrace.stream.monitoring import unpacked

SLICES_MAX = 16  # the newest, that are "now"
SERIES_MAX = 24  # that are shown, those that are furthest beyond chance first
HEAD_COUNT_MAX = 10_000  # records from the beginning of the topic
RECORDS_PER_SLICE = 3  # of a partition: the end of a transaction is one too, and that a partition is idle


class Watched:
    """Sums up the newest slices of all partitions, and compares each series with what is usual.

    Features, and the score of the model that does not change, are compared with the reference, as the monitor does.
    What the worker makes itself is compared with how it was in the first slices that the topic still has, as the
    monitor has learned it then. Whatever comes, no more than some slices are kept.
    """

    def __init__(self, watch: Watch, *, learns: bool) -> None:
        self.told: dict[str, Any] = nothing("no slice of time is over yet")
        self._watch = watch
        self._learns = learns
        self._beginning: Beginning | None = Beginning(watch)  # until it is known
        self._usual: dict[int, Reference | None] = {1: None, 2: None}
        self._recent: dict[int, tuple[int, list[Ints]]] = {}  # events of a slice; counts of what is watched
        self._last: dict[int, int] = {}  # the newest slice of each partition
        self._first: int | None = None  # slice of the stream, where that is known
        self._whole = False  # the topic still begins where the stream did
        self._partitions = 1
        self._of_others = False
        self._changed = False

    # What is read.

    @property
    def head_count(self) -> int:
        """How many records of the beginning may be needed to learn from."""
        return min(HEAD_COUNT_MAX, LEARN_SLICES_MAX * self._partitions)

    @property
    def tail_count(self) -> int:
        """How many of the last records there are of what is "now"."""
        return SLICES_MAX * RECORDS_PER_SLICE * self._partitions

    @property
    def has_learned(self) -> bool:
        """Say whether it is known what is usual, and the beginning is not needed any more."""
        return self._beginning is None

    def begins(self, *, whole: bool) -> None:
        """Hear that the topic is read from its beginning, and whether that is the stream's too."""
        self._whole = whole

    def skips(self) -> None:
        """Hear that what comes next is not the beginning any more: what was not learned of it stays unknown."""
        self._learn()
        self._beginning = None

    def take(self, value: bytes) -> dict[str, Any] | None:
        """Take a record; what is no slice of ours changes nothing. Return what it says, if that is no slice at all."""
        try:
            said = unpacked(value)
            if "slice" not in said:
                return said
            if said["of"] != self._watch.fingerprint:
                self._of_others = self._changed = True
                return None
            slice_, partition, partitions = Counted.load(said["slice"]), int(said["partition"]), int(said["partitions"])
            slice_ = slice_._replace(number=int(slice_.number), events=int(slice_.events))
            binners = (self._watch.binner, self._watch.event_binner, self._watch.label_binner)
            parts = (slice_.counts, slice_.own, slice_.labels)
            if [len(one) for one in parts] != [one.total for one in binners]:
                return None
        except (
            snapshot.Unreadable, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError
        ):  # fmt: skip
            return None
        if slice_.number <= self._last.get(partition, slice_.number - 1):
            return None  # at least once, it may come again
        self._last[partition] = slice_.number
        self._partitions = max(self._partitions, partitions)
        self._first = slice_.number if self._first is None else self._first
        if self._beginning is not None and not self._warms_up(slice_.number) and self._beginning.wants(slice_.number):
            self._beginning.note(slice_)
        self._add(slice_)
        return None

    def _warms_up(self, number: int) -> bool:
        """Say whether features do not remember yet what they are going to: known where the whole stream is there."""
        if not self._whole or self._first is None:
            return False
        return (number - self._first) * self._watch.every_s < self._watch.warm_up_s

    def _add(self, slice_: Counted) -> None:
        number, recent = slice_.number, self._recent
        if len(recent) >= SLICES_MAX and number < min(recent):
            return
        self._changed = True
        counts = [slice_.counts, slice_.own, slice_.labels]
        if (known := recent.get(number)) is not None:
            together = [one + more for one, more in zip(known[1], counts, strict=True)]
            recent[number] = known[0] + slice_.events, together
            return
        recent[number] = slice_.events, counts
        if len(recent) > SLICES_MAX:
            del recent[min(recent)]

    def _learn(self) -> None:
        if self._beginning is None:
            return
        for which, usual in self._usual.items():
            if usual is None and (found := self._beginning.learned(which)) is not None:
                self._usual[which] = found[0]
        if self._usual[1] is not None and (self._usual[2] is not None or not self._learns):
            self._beginning = None

    # What is told.

    def sum_up(self) -> None:
        """Say anew how far everything is, if anything has come."""
        if not self._changed:
            return
        self._changed = False
        self._learn()
        if not self._recent:
            self.told = nothing("all slices on the topic are of another reference than this pipeline's")
            return
        events = sum(one[0] for one in self._recent.values())
        found = list(self._series())
        moved = sum(one["beyond"] > 1 for one in found)
        series = sorted(found, key=lambda one: (-one.pop("beyond"), one["series"]))
        every, first, last = self._watch.every_s, min(self._recent), max(self._recent)
        self.told = {
            "known": True,
            "trouble": "",
            "begin": first * every,
            "end": (last + 1) * every,
            "slices": len(self._recent),
            "events": events,
            "warms_up": self._warms_up(last),
            "count": len(series),
            "moved": moved,
            "series": series[:SERIES_MAX],
        }

    def _series(self) -> Iterator[dict[str, Any]]:
        watch = self._watch
        parts = (
            (watch.binner, watch.reference),
            (watch.event_binner, self._usual[1]),
            (watch.label_binner, self._usual[2]),
        )
        for part, (binner, usual) in enumerate(parts):
            counts = np.sum([one[1][part] for one in self._recent.values()], axis=0)
            for place, one in enumerate(binner.series):
                now = counts[binner.begins[place] : binner.begins[place + 1]]
                if part and (not now.any() or now.sum() == now[one.missing]):
                    continue  # there is no such model, or no label came
                kind = kind_of(part, one.name)
                yield {"series": one.name, "kind": kind, **_compared(one, now, usual, place)}


def _compared(one: Bins, now: Ints, usual: Reference | None, place: int) -> dict[str, Any]:
    many, lately = int(now.sum()), shares(now)
    made: dict[str, Any] = {
        "bins": one.names,
        "current": _rounded(lately),
        "current_count": many,
        "reference": [],
        "reference_count": 0,
        "psi": None,
        "jensen_shannon": None,
        "chance": None,
        "beyond": -np.inf,
    }
    if usual is None or not (before := usual.of(place)).any():
        return made
    then = shares(before)
    made |= {"reference": _rounded(then), "reference_count": int(before.sum())}
    if many >= VALUES_MIN:
        far, chance = psi(then, lately), float(usual.chance(place, np.array([many]))[0])
        between = jensen_shannon(then, lately)
        made |= {"psi": round(far, 6), "jensen_shannon": round(between, 6), "chance": round(chance, 6)}
        made["beyond"] = far / chance
    return made


def _rounded(values: Any) -> list[float]:
    return [round(float(one), 4) for one in values]


def nothing(why: str) -> dict[str, Any]:
    """Return what is told where nothing is known.

    >>> nothing("no slice of time is over yet")["trouble"]
    'no slice of time is over yet'
    """
    return {"known": False, "trouble": why, "slices": 0, "count": 0, "moved": 0, "warms_up": False, "series": []}
