"""What was sent, and what has to become of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum


class Fate(IntEnum):
    """What has to become of an event."""

    SCORED = 1  # one prediction
    DEAD = 2  # one dead letter
    HIDDEN = 3  # nothing: its transaction was aborted


@dataclass(slots=True)
class Poison:
    """A record that cannot be scored, as it was sent."""

    kind: str
    codes: frozenset[str]
    key: bytes | None
    value: bytes | None
    offset: int = -1


@dataclass
class Ledger:
    """One byte per event that was sent, so that millions of them fit.

    Ids are ``<partition>-<sequence>``; the sequence counts up within each partition, in the order of the log.

    >>> ledger = Ledger(seed=1, partitions=2)
    >>> [ledger.add(0, Fate.SCORED), ledger.add(1, Fate.DEAD), ledger.add(0, Fate.SCORED)]
    [0, 0, 1]
    >>> ledger.count(Fate.SCORED), list(ledger.ids(Fate.DEAD))
    (2, ['1-0'])
    """

    seed: int
    partitions: int
    fates: list[bytearray] = field(init=False)
    poisons: dict[str, Poison] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fates = [bytearray() for _ in range(self.partitions)]

    def add(self, partition: int, fate: Fate) -> int:
        self.fates[partition].append(fate)
        return len(self.fates[partition]) - 1

    def count(self, *fates: Fate) -> int:
        return sum(column.count(fate) for column in self.fates for fate in fates)

    @property
    def outputs(self) -> int:
        """How many records the workers owe, predictions and dead letters together."""
        return self.count(Fate.SCORED, Fate.DEAD)

    def ids(self, fate: Fate) -> Iterator[str]:
        for partition, column in enumerate(self.fates):
            for sequence, found in enumerate(column):
                if found == fate:
                    yield f"{partition}-{sequence}"


def parsed(name: str) -> tuple[int, int]:
    """Return the partition and the sequence in an id; what follows a second dash is padding.

    >>> parsed("3-17"), parsed("0-5-xxxx")
    ((3, 17), (0, 5))
    """
    partition, sequence = name.split("-", 2)[:2]
    return int(partition), int(sequence)
