"""What there is to do: each job has its input, and knows what every event of it must come to."""

from collections.abc import Callable
from dataclasses import dataclass

import events
import labelled


@dataclass(frozen=True)
class Job:
    """One job; contestants of different jobs are never compared by their throughput."""

    name: str
    title: str
    make: Callable[..., events.Events]  # of a count, a seed, and where it is not the usual: when


STATELESS = Job("stateless", "five features of each event, a fixed model", events.make)
LEARNING = Job(
    "learning",
    "nine features, four of them with a memory, a fixed model, one that learns, and ADWIN over its errors",
    labelled.make,
)
BY_NAME = {job.name: job for job in (STATELESS, LEARNING)}
