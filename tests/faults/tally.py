"""What one reader saw of the outputs, counted in one byte per event."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from faults.generator import partition_of
from faults.ledger import Ledger, parsed

EXAMPLES_MAX = 5


@dataclass
class Tally:
    """Counts predictions and dead letters by the id of their event, and notes everything odd on the way.

    Memory does not grow with what is wrong either: of each oddity the first few examples are kept.
    """

    ledger: Ledger
    predictions: str
    dead_letters: str
    outputs: int = 0
    scored: list[bytearray] = field(init=False)
    dead: list[bytearray] = field(init=False)
    odd: dict[str, list[str]] = field(default_factory=dict)
    odd_count: dict[str, int] = field(default_factory=dict)
    latest_at: list[float] = field(init=False)
    gaps: list[tuple[int, float, float]] = field(default_factory=list)
    _order: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scored = [bytearray() for _ in range(self.ledger.partitions)]
        self.dead = [bytearray() for _ in range(self.ledger.partitions)]
        self.latest_at = [0.0] * self.ledger.partitions

    def take(self, record: Any, partitions: int) -> None:
        """Count one record of a topic that has ``partitions``."""
        if record.topic == self.predictions:
            self._take_prediction(record, partitions)
        elif record.topic == self.dead_letters:
            self._take_dead_letter(record)
        else:
            self._note("records in a topic nobody asked about", record.topic)

    def _take_prediction(self, record: Any, partitions: int) -> None:
        answer = orjson.loads(record.value)
        name, card, score = answer["id"], answer["card"], answer["score"]
        partition, sequence = parsed(name)
        if (record.key or b"").decode() != card or record.partition != partition_of(record.key, partitions):
            self._note("predictions in another partition than their key's", name)
        if not isinstance(score, float) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
            self._note("scores that are no probability", f"{name}: {score}")
        times = self._count(self.scored[partition], partition, sequence)
        if times == 1:
            if sequence < self._order.get(card, -1):
                self._note("predictions that overtook another of their card", f"{name} ({card})")
            self._order[card] = sequence

    def _take_dead_letter(self, record: Any) -> None:
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        name = headers.get("harness.id")
        if name is None:
            self._note("dead letters without the headers of their event", str(headers)[:200])
            try:  # count it under the id inside, so that a good event that died is named as such
                name = orjson.loads(record.value)["id"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                return
        partition, sequence = parsed(name)
        self._count(self.dead[partition], partition, sequence)
        code = headers.get("headrace.errors.code")
        poison = self.ledger.poisons.get(name)
        if poison is None:
            self._note("dead letters of good events", f"{name}: {code}")
            return
        if code not in poison.codes:
            self._note(
                "dead letters with another code",
                f"{name} ({poison.kind}): {code}, not {sorted(poison.codes)}",
            )
        if (record.key, record.value) != (poison.key, poison.value):
            self._note("dead letters without the original bytes", f"{name} ({poison.kind})")
        place = (headers.get("__connect.errors.partition"), headers.get("__connect.errors.offset"))
        if place != (str(partition), str(poison.offset)):
            self._note("dead letters that name another place", f"{name}: {place}, not {(partition, poison.offset)}")

    def _count(self, column: bytearray, partition: int, sequence: int) -> int:
        self.outputs += 1
        self._look_at_the_clock(partition)
        if sequence >= len(column):
            column.extend(bytes(sequence + 1 - len(column)))
        column[sequence] = min(255, column[sequence] + 1)
        return column[sequence]

    def _look_at_the_clock(self, partition: int) -> None:
        now = time.monotonic()
        if self.latest_at[partition] and now - self.latest_at[partition] > 1.0:
            self.gaps.append((partition, self.latest_at[partition], now))
        self.latest_at[partition] = now

    def _note(self, oddity: str, example: str) -> None:
        self.odd_count[oddity] = self.odd_count.get(oddity, 0) + 1
        if len(kept := self.odd.setdefault(oddity, [])) < EXAMPLES_MAX:
            kept.append(example)
