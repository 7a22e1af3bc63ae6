"""What every score should be, counted again from the input by whoever knows nothing of how it is kept."""

import math
from collections import defaultdict
from typing import Any

import orjson
from aiokafka import TopicPartition

from faults import reader
from faults.remembering import WEIGHTS


def recount(address: str, topic: str, partitions: int) -> dict[str, float]:
    """Return the score of every event, from the input alone: a list of past payments per card."""
    past: dict[str, list[Any]] = defaultdict(list)
    scores = {}
    for record in reader.records(address, {TopicPartition(topic, number): 0 for number in range(partitions)}):
        event = orjson.loads(record.value)
        known = past[event["card"]]
        known.append(event)
        at = event["at"]
        features = {
            "count": sum(math.floor(at) - 300 < math.floor(one["at"]) <= math.floor(at) for one in known),
            "sum": math.fsum(one["amount"] for one in known if at - 3_600 < one["at"] <= at),
            "seen": len({one["country"] for one in known}),
            "first": max(0.0, at - min(one["at"] for one in known)),
        }
        total = -3.0 + sum(WEIGHTS[name] * value for name, value in features.items())
        scores[event["id"]] = 1 / (1 + math.exp(-total))
    return scores


def differences(address: str, topic: str, predictions: str, *, partitions: int, predicted_in: int) -> list[str]:
    """Return what every prediction says that the recount does not."""
    want = recount(address, topic, partitions)
    since = {TopicPartition(predictions, number): 0 for number in range(predicted_in)}
    found = {}
    for record in reader.records(address, since, isolation="read_committed"):
        made = orjson.loads(record.value)
        found[made["id"]] = made["score"]
    wrong = [
        f"{name}: {found.get(name)}, not {score}" for name, score in want.items() if not _near(found.get(name), score)
    ]
    return [*wrong[:5], f"{len(wrong)} of {len(want)} in all"] if wrong else []


def _near(found: float | None, want: float) -> bool:
    return found is not None and math.isclose(found, want, rel_tol=1e-9)
