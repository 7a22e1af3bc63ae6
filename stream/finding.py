"""What ``headrace doctor`` found: the names of its checks, their verdicts, and whom it looks at."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from headrace.schemas.config import Config


class Verdict(StrEnum):
    """What a check came to. ``skip``: something before it failed, or is not there to be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Finding(msgspec.Struct, frozen=True):
    """One thing that a check says, under the check's name, which stays the same in every version."""

    check: str
    verdict: Verdict
    what: str = ""
    hint: str = ""


def fail(check: str, what: str, hint: str) -> Finding:
    """Return what will keep a worker from starting, or make it lose or refuse something."""
    return Finding(check, Verdict.FAIL, what, hint)


def warn(check: str, what: str, hint: str) -> Finding:
    """Return what a person should know before the start."""
    return Finding(check, Verdict.WARN, what, hint)


class Patient:
    """What is looked at: a pipeline by its path and options by what was given. Checks fill in what they made of it."""

    def __init__(self, path: str, configured: Callable[[], Config]) -> None:
        self.path = path
        self.configured = configured
        self.config: Config | None = None
        self.pipeline: Any = None
        self.reached = False  # whether a broker answered at any address
        self.broker: Any = None  # what let us in: ``Cluster`` of checks_broker
        self.topics: Any = None  # what is known of the topics


Examine = Callable[[Patient], Iterator[Finding]]
