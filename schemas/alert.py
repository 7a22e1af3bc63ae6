"""What Headrace publishes when the world, or the worker, needs a look."""

from enum import StrEnum

import msgspec


class AlertState(StrEnum):
    """Where an alert is in its life. The values are stable."""

    RAISED = "raised"
    WORSE = "worse"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"


class Severity(StrEnum):
    """How much it matters. The values are stable, and in the order in which they get worse."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Its place, from the mildest on.

        >>> max(Severity.LOW, Severity.HIGH, Severity.MEDIUM, key=lambda one: one.rank)
        <Severity.HIGH: 'high'>
        """
        return list(Severity).index(self)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What shows that something moved: how it was spread, and how it is now.

    ``bins`` names what was counted: for numbers, each name is the bin's range. ``reference`` and ``current`` are
    shares of the bins, which add up to one; ``distances`` are between the two, by their names.
    """

    bins: list[str] = []
    reference: list[float] = []
    current: list[float] = []
    reference_count: int = 0
    current_count: int = 0
    distances: dict[str, float] = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know, with what shows it.

    One thing that happened has one ``id`` from when it is raised until it is cleared, so a subscriber can pair what is
    said of it. ``at`` is when it is said, in the time of the events, and ``since`` when it began, as far as can be
    told. ``series`` is what moved and ``slice`` of which part of the events, such as ``merchant=m7``; ``explained_by``
    are other series and slices that moved with it, the strongest first. ``effect`` says what became of the quality,
    ``action`` what could be done about it, and ``actions`` what was done by itself, where anything was.

    >>> alert = Alert(id="drift-amount-7", at=12.5, kind="drift", state=AlertState.RAISED, text="amount moved")
    >>> msgspec.json.encode(alert)
    b'{"id":"drift-amount-7","at":12.5,"kind":"drift","state":"raised","text":"amount moved","series":"",...}'
    """

    id: str
    at: float
    kind: str
    state: AlertState
    text: str
    series: str = ""
    slice: str = ""
    severity: Severity = Severity.MEDIUM
    since: float | None = None
    pipeline: str = ""
    version: str = ""
    explained_by: list[str] = []
    effect: dict[str, float] = {}
    action: str = ""
    evidence: Evidence = Evidence()
    actions: list[str] | msgspec.UnsetType = msgspec.UNSET
