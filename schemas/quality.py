"""What Headrace publishes of how good its models have been."""

from typing import Literal

import msgspec

Numbers = dict[str, float | None]


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The progressive quality of one model on one partition, or on all of them together (``partition`` is null).

    ``model`` is ``static``, ``online``, ``combined``, or a baseline: ``last_class``, ``majority``, ``last_value``,
    ``mean``. ``at`` is the time of the newest label in it, and ``window`` how long the sliding window is, both in
    seconds. ``overall`` and ``recent`` have the same names; what nobody can say yet is null. A reader takes what it
    knows: later versions add names.

    >>> report = QualityReport(
    ...     pipeline="fraud",
    ...     version="1",
    ...     partition=3,
    ...     model="online",
    ...     kind="binary",
    ...     at=12.5,
    ...     window=86400.0,
    ...     overall={"count": 2.0, "accuracy": 0.5},
    ...     recent={"count": 0.0, "accuracy": None},
    ... )
    >>> report.id
    'fraud-3-online'
    >>> msgspec.json.encode(report)[-95:]
    b'"window":86400.0,"overall":{"count":2.0,"accuracy":0.5},"recent":{"count":0.0,"accuracy":null}}'
    """

    pipeline: str
    version: str
    partition: int | None
    model: str
    kind: Literal["binary", "multiclass", "regression", "anomaly"]
    at: float
    window: float
    overall: Numbers
    recent: Numbers

    @property
    def id(self) -> str:
        """What it is a report on: the key of its record, so that a compacted topic has the newest."""
        where = "all" if self.partition is None else self.partition
        return f"{self.pipeline}-{where}-{self.model}"
