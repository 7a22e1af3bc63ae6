"""A crowd of keys goes through what a worker does with its records, in a process whose memory is looked at.

    python crowd.py 10000000 2000000        so many keys that each come once, and so many that are remembered

Prints one line of JSON. Time is the thread's own, so that others who use the machine do not show.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.records import Record, config_of

from headrace import Event, Linear, Pipeline, per
from headrace.stream import heap
from headrace.stream.agents import Scorer
from headrace.stream.state import Memory

STEP_COUNT = 500
KNOWN_COUNT = 10_000
USUAL_STEPS = 600
card = per("card")


class Payment(Event, topic="payments", key="card"):
    """The score of one is how many there were of its card."""

    id: str
    at: float
    card: str
    amount: float


FEATURES = {
    "count": card.count("1h", tile="1m"),
    "short": card.count("5m", tile="1m"),
    "sum": card.sum("amount", "1h", tile="1m"),
}
WEIGHTS = {"count": 1.0, "short": 0.0, "sum": 0.0}


class Crowd:
    """One partition, and whoever steps through it."""

    def __init__(self, keys_max: int) -> None:
        static = Linear(WEIGHTS, logistic=False)
        pipeline = Pipeline(name="crowd", events=Payment, features=FEATURES, static=static, keys_max=keys_max)
        config = config_of(group="crowd")
        topics = (config.topic_predictions, config.topic_dead_letters, config.topic_alerts)
        self._scorer = Scorer(pipeline, config, dict.fromkeys(topics, 1_000_000))
        self._memory = Memory(("payments", 0), config.state_topic, pipeline.fresh(), 0, bytes_max=1_000_000)
        self._offset = 0
        (self.table,) = self._memory.state.tables.values()

    def step(self, cards: list[str]) -> tuple[float, list[Any]]:
        """Return how many seconds the step took, and the scores."""
        messages: list[Any] = [
            Record(
                b'{"id":"%d","at":%f,"card":"%s","amount":5}' % (at, 1.7e9 + at * 1e-4, name.encode()),
                key=name.encode(),
                offset=at,
            )
            for at, name in enumerate(cards, self._offset)
        ]
        self._offset += len(cards)
        began = time.thread_time()
        outputs = self._scorer.step(messages, self._memory, self._offset)
        took = time.thread_time() - began
        self._memory.saved = None  # it would be on disk by now
        return took, [json.loads(value)["score"] for value in outputs.values] if len(cards) == 1 else []


def _peak_mib() -> float:
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1_024


def main(keys: int, keys_max: int) -> None:
    heap.limit()
    crowd, rng = Crowd(keys_max), np.random.default_rng(1)
    usual = [
        crowd.step([f"known-{number}" for number in rng.integers(KNOWN_COUNT, size=STEP_COUNT)])[0]
        for _ in range(USUAL_STEPS)
    ]
    before, known = _peak_mib(), len(crowd.table)
    flooded, half = [], 0.0
    for first in range(0, keys, STEP_COUNT):
        took, _ = crowd.step([f"new-{number}" for number in range(first, first + STEP_COUNT)])
        flooded.append(took)
        half = half or (_peak_mib() if 2 * first >= keys else 0.0)
    table = crowd.table
    told = {
        "keys": len(table),
        "known": known,
        "evicted": table.evicted,
        "expired": table.expired,
        "bytes_per_key": table.bytes / len(table),
        "peak_mib": {"before": before, "half": half, "end": _peak_mib()},
        "p99_ms": {
            "usual": float(np.percentile(usual, 99)) * 1e3,
            "flooded": float(np.percentile(flooded[len(flooded) // 2 :], 99)) * 1e3,
        },
        "longest_ms": max(flooded) * 1e3,
        "scores": {
            name: crowd.step([card])[1][0]
            for name, card in (("evicted", "new-0"), ("never seen", "nobody"), ("kept", f"new-{keys - 1}"))
        },
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
