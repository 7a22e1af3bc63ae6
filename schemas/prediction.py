"""What Headrace publishes for every event it scored."""

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from headrace.schemas.event import OURS, Event, columns_of


@cache
def prediction_type(events: type[Event], model: str, version: str) -> Callable[..., msgspec.Struct]:
    """Return the struct for one pipeline's predictions.

    Its first three fields are the event's own id, time and key, under the names that the event's
    class gives them; a reader joins on those. ``online`` is null until there is a learner.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    >>> Prediction = prediction_type(Payment, "fraud", "1")
    >>> msgspec.json.encode(Prediction("p1", 12.5, "a7", score=0.25, static=0.25))
    b'{"id":"p1","at":12.5,"account":"a7","score":0.25,"static":0.25,"online":null,"model":"fraud","version":"1"}'
    """
    wire, types = events.wire, columns_of(events)
    fields: list[Any] = [(name, types[name]) for name in dict.fromkeys((wire.id, wire.time, wire.key))]
    fields += [
        ("score", float),
        ("static", float | None, None),
        ("online", float | None, None),
        ("model", str, model),
        ("version", str, version),
    ]
    assert not {name for name, *_ in fields[:-5]} & OURS, "the event's class was checked for this"
    return msgspec.defstruct("Prediction", fields, gc=False)
