"""How the worker's own numbers were spread at first: what the monitor learns when a watch begins, from slices again."""

import numpy as np

from headrace.models.memory import Ints
from headrace.models.monitor import EVENTS_MIN
from headrace.models.reference import Reference
from headrace.models.settling import LEARN_SLICES_MAX, Settling
from headrace.models.watch import Counted, Watch

KEPT_MAX = 2 * LEARN_SLICES_MAX  # slices: some have too few events, and are put together


class Beginning:
    """Keeps the first slices that a topic still has, of all partitions together, until it is known what was usual."""

    def __init__(self, watch: Watch) -> None:
        self._binners = {1: watch.event_binner, 2: watch.label_binner}
        self._first: dict[int, list[Ints]] = {}  # of each slice: events, what the worker made, what became known

    def wants(self, number: int) -> bool:
        """Say whether a slice is among the first."""
        return len(self._first) < KEPT_MAX or number <= max(self._first)

    def note(self, slice_: Counted) -> None:
        """Take a slice of a partition."""
        given = [np.array([slice_.events]), slice_.own, slice_.labels]
        known = self._first.get(slice_.number)
        self._first[slice_.number] = given if known is None else [a + b for a, b in zip(known, given, strict=True)]
        if len(self._first) > KEPT_MAX:
            del self._first[max(self._first)]

    def learned(self, which: int) -> tuple[Reference, int, int] | None:
        """Return how the worker's own numbers (1), or labels (2), were spread at first, and in which slices that was.

        As the monitor learns it when a watch begins, from the first slices that the topic still has.
        """
        settling = Settling(self._binners[which])
        events, held = 0, np.zeros(self._binners[which].total, np.int64)
        for number in sorted(self._first):
            here = self._first[number]
            events += int(here[0][0])
            held = held + here[which]
            if events < EVENTS_MIN:
                continue
            usual = settling.take(held) if held.any() else None
            if usual is not None:
                return usual, min(self._first), number
            events, held = 0, np.zeros(self._binners[which].total, np.int64)
        return None
