"""What Headrace publishes for every event it scored."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from headrace.schemas.event import OURS, Event, columns_of


class Flag(StrEnum):
    """What a reader should know about how a score came about. The values are stable, and there may be more."""

    STATIC_FALLBACK = "static_fallback"
    LATE = "late"
    STATIC_FAILED = "static_failed"
    ONLINE_FAILED = "online_failed"
    NO_REASONS = "no_reasons"

    @property
    def text(self) -> str:
        """What it says."""
        return _TEXTS[self]


_TEXTS = {
    Flag.STATIC_FALLBACK: "the static model failed on this event, or rests because it failed on many; its fallback "
    "gave the score, and `static` is null",
    Flag.LATE: "the event came later than its features allow: it was scored by what is remembered, and was not "
    "remembered itself",
    Flag.STATIC_FAILED: "the static model has no score for this event; the learner's is the only one",
    Flag.ONLINE_FAILED: "the learner has no score for this event, because a feature is missing or absurd or it raised; "
    "the static model's is the only one",
    Flag.NO_REASONS: "reasons are asked for, and a model that had a say in this score could not tell what moved it",
}

FLAGS = tuple[str, ...]  # and no list, because nearly all predictions can share one that is empty


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What a feature contributed to a model's score, as a reason for it.

    ``model`` is ``static`` or ``online``. ``code`` is the feature's name, or what the pipeline says instead; ``value``
    is the feature's, null where it was missing. ``contribution`` is signed, in the model's own units: log odds of a
    classifier.

    >>> msgspec.json.encode(Contribution("static", "R01", 12.0, 0.75))
    b'{"model":"static","code":"R01","value":12.0,"contribution":0.75}'
    """

    model: str
    code: str
    value: float | None
    contribution: float


REASONS = tuple[Contribution, ...]
PREDICTED = "predicted"  # the field of a multiclass pipeline's predictions and outcomes with the class


@cache
def prediction_type(
    events: type[Event], model: str, version: str, *, reasons: bool = False, classes: type | None = None
) -> Callable[..., msgspec.Struct]:
    """Return the struct for one pipeline's predictions.

    Its first three fields are the event's own id, time and key, under the names that the event's
    class gives them; a reader joins on those. ``online`` is null until there is a learner. ``flags`` is always
    there: values of ``Flag``, of which an ordinary prediction has none. ``reasons`` is there where the pipeline gives
    them, and no byte of it elsewhere. So is ``predicted`` where there are ``classes``, which is their type: the
    likeliest one, whose probability is the score, and null as long as nobody knows a class.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    >>> Prediction = prediction_type(Payment, "fraud", "1")
    >>> msgspec.json.encode(Prediction("p1", 12.5, "a7", score=0.25, static=0.25))
    b'{"id":"p1","at":12.5,...,"score":0.25,"static":0.25,"online":null,"model":"fraud","version":"1","flags":[]}'
    >>> Prediction = prediction_type(Payment, "fraud", "1", reasons=True)
    >>> why = (Contribution("static", "R01", 12.0, 0.75),)
    >>> msgspec.json.encode(Prediction("p1", 12.5, "a7", 0.25, 0.25, reasons=why))
    b'{"id":"p1",...,"flags":[],"reasons":[{"model":"static","code":"R01","value":12.0,"contribution":0.75}]}'
    >>> Prediction = prediction_type(Payment, "colour", "1", classes=str)
    >>> msgspec.json.encode(Prediction("p1", 12.5, "a7", 0.75, None, 0.75, predicted="red"))
    b'{"id":"p1",...,"score":0.75,"static":null,"online":0.75,"model":"colour","version":"1","flags":[],"predicted":"red"}'
    """
    wire, types = events.wire, columns_of(events)
    fields: list[Any] = [(name, types[name]) for name in dict.fromkeys((wire.id, wire.time, wire.key))]
    fields += [
        ("score", float),
        ("static", float | None, None),
        ("online", float | None, None),
        ("model", str, model),
        ("version", str, version),
        ("flags", FLAGS, ()),
    ]
    assert not {name for name, *_ in fields[:-6]} & OURS, "the event's class was checked for this"
    if classes is not None:
        fields.append((PREDICTED, classes | None, None))
    if reasons:
        fields.append(("reasons", REASONS, ()))
    return msgspec.defstruct("Prediction", fields, gc=False)
