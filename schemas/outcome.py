"""What became known of an event after it was scored."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from headrace.schemas.event import Event, columns_of
from headrace.schemas.prediction import PREDICTED


class By(StrEnum):
    """How it became known."""

    LABEL = "label"  # its label came
    TIMEOUT = "timeout"  # none came in time, and that is taken for one
    REVISION = "revision"  # another label came later: this one is right
    LATE = "late"  # its label came too late to count
    ORPHAN = "orphan"  # a label came, and no event of that id did


class Withheld(StrEnum):
    """What kept it from teaching."""

    LIMIT = "limit"  # all labels together had taught enough in that span of time
    SOURCE = "source_limit"  # those of its source had
    BRAKE = "brake"  # the learner had become bad, and was resting


@cache
def outcome_type(
    events: type[Event], model: str, version: str, *, limited: bool = False, classes: type | None = None
) -> Callable[..., msgspec.Struct]:
    """Return the struct for one pipeline's outcomes.

    It begins with the event's own id and key. ``at`` is when it was true, ``event_at`` the time of the event;
    ``was`` is what was taken for true before, and null the first time. The scores are those that were published.
    Where it is ``limited`` what may teach, ``withheld`` says why this did not, and is null where it did. Where there
    are ``classes``, which is their type, ``label`` and ``was`` are such, and ``predicted`` is what was published.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    >>> Outcome = outcome_type(Payment, "fraud", "1")
    >>> msgspec.json.encode(Outcome("p1", "a7", by=By.LABEL, at=60.5, label=1.0, event_at=12.5, score=0.25))
    b'{"id":"p1","account":"a7","by":"label","at":60.5,"label":1.0,"was":null,"event_at":12.5,"score":0.25,"static":null,"online":null,"model":"fraud","version":"1"}'
    >>> Outcome = outcome_type(Payment, "colour", "1", classes=str)
    >>> msgspec.json.encode(Outcome("p1", "a7", By.LABEL, 60.5, "blue", None, 12.5, 0.75, predicted="red"))
    b'{"id":"p1","account":"a7","by":"label","at":60.5,"label":"blue","was":null,...,"predicted":"red"}'
    """
    wire, types = events.wire, columns_of(events)
    truth = float | None if classes is None else classes | None
    fields: list[Any] = [(name, types[name]) for name in dict.fromkeys((wire.id, wire.key))]
    fields += [
        ("by", By),
        ("at", float),
        ("label", truth),
        ("was", truth, None),
        ("event_at", float | None, None),
        ("score", float | None, None),
        ("static", float | None, None),
        ("online", float | None, None),
        ("model", str, model),
        ("version", str, version),
    ]
    if limited:
        fields.append(("withheld", Withheld | None, None))
    if classes is not None:
        fields.append((PREDICTED, classes | None, None))
    return msgspec.defstruct("Outcome", fields, gc=False)
