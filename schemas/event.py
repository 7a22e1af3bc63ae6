"""What producers write: events and labels, declared as classes."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from headrace.schemas.errors import BadPipeline
from headrace.schemas.span import seconds


class Wire(NamedTuple):
    """Where a class of records lives, and which of its fields say who, what and when."""

    topic: str
    key: str
    id: str
    time: str


class Truth(NamedTuple):
    """What a class of labels says of which events, and for how long anybody waits for it."""

    of: "type[Event]"
    field: str  # in which the truth stands
    within: float  # seconds from the event, in which its label has to come
    otherwise: float | None  # what is true of an event without a label by then; None where nobody can say
    text: bool = False  # the truth is the name of a class
    first: str | None = None  # the class that is true otherwise, where it is text: the first that is known, zero


class _Declared(msgspec.StructMeta):
    """Takes ``topic``, ``key``, ``id`` and ``time`` from the class statement."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        topic: str = "",
        key: str = "",
        id: str = "id",  # noqa: A002 - the word that belongs in the user's class statement
        time: str = "at",
        of: "type[Event] | None" = None,
        within: str = "",
        otherwise: float | str | None = None,
        truth: str = "label",
        **options: Any,
    ) -> Any:
        # Millions of these live for a millisecond each and never in a cycle: the collector need not see them.
        options.setdefault("gc", False)
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        if of is not None:
            key = key or getattr(getattr(of, "wire", None), "key", "")
            cls.asked = (of, truth, within, otherwise)
        if topic or key:
            cls.wire = Wire(topic, key, id, time)
            _check(cls)
        return cls


class Event(msgspec.Struct, metaclass=_Declared):
    """A record that is scored: subclass it, and name its topic and the field that is its key.

    ``id`` and ``time`` name the fields with the event's identity and its time in seconds; they are
    called ``id`` and ``at`` unless the class says otherwise. Fields that the class does not name are
    ignored on the wire; a missing or wrong one makes the record a dead letter.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    >>> Payment.wire
    Wire(topic='payments', key='account', id='id', time='at')
    >>> class Odd(Event, topic="odd", key="user"):
    ...     id: str
    ...     at: str
    Traceback (most recent call last):
    headrace.schemas.errors.BadPipeline: pipeline cannot run (2 problems):
      Odd.at: its type is str, and the time of an event is a float, in seconds
      Odd: key="user" names no field; the fields are id, at
    """

    wire: ClassVar[Wire]


class Label(Event):
    """What turned out to be true of an event, by the event's id, carried under the event's key.

    ``of`` names the class of the events. ``within`` says how long after its event a label may come; where
    ``otherwise`` is given, that is what is true of an event whose time is up, and a label that comes later than
    that corrects it. The truth stands in the field ``label``, unless ``truth`` names another. It is a number, or of a
    multiclass pipeline also the name of a class.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    >>> class Chargeback(Label, topic="labels", of=Payment, within="7d", otherwise=0):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     label: int
    >>> Chargeback.wire.key, Chargeback.truth.within
    ('account', 604800.0)
    >>> class Click(Label, topic="clicks", of=Payment, within="half an hour"):
    ...     id: int
    ...     at: float
    ...     account: str
    ...     clicked: bool
    Traceback (most recent call last):
    headrace.schemas.errors.BadPipeline: pipeline cannot run (3 problems):
      Click.id: its type is int, and that of Payment.id is str: a label is found by its event's id
      Click: truth="label" names no field; the fields are id, at, account, clicked
      Click: within: 'half an hour' is no span of time: write a number and one of s, m, h, d, w, like 5m or 30d
    """

    truth: ClassVar[Truth]


# What a prediction adds to the event's own id, time and key.
OURS = frozenset({"score", "static", "online", "model", "version", "flags"})
_ROLES = {
    "id": ((str, int), "the id of an event is a str or an int"),
    "time": ((float, int), "the time of an event is a float, in seconds"),
    "key": ((str, int), "the key of an event is a str or an int"),
}


def _check(cls: Any) -> None:
    problems = []
    wire: Wire = cls.wire
    if not wire.topic:
        problems.append(f'{cls.__name__}: no topic; write class {cls.__name__}(Event, topic="...", key="...")')
    hints = get_type_hints(cls)
    for role, (types, rule) in _ROLES.items():
        field = getattr(wire, role)
        if field not in cls.__struct_fields__:
            fields = ", ".join(cls.__struct_fields__)
            problems.append(f'{cls.__name__}: {role}="{field}" names no field; the fields are {fields}')
        elif hints[field] not in types:
            problems.append(f"{cls.__name__}.{field}: its type is {type_name(hints[field])}, and {rule}")
        elif field in OURS:
            problems.append(f'{cls.__name__}: {role}="{field}" is a name that predictions use for something else')
    if hasattr(cls, "asked"):
        problems += _check_truth(cls, hints)
    if problems:
        raise BadPipeline(sorted(problems))


def _check_truth(cls: Any, hints: dict[str, Any]) -> Iterator[str]:
    of, field, within, otherwise = cls.asked
    wire: Wire | None = getattr(of, "wire", None)
    if wire is None:
        yield f"{cls.__name__}: of={of!r} is no class of events with a topic"
        return
    theirs = get_type_hints(of)
    for role in ("id", "key"):
        mine, name = getattr(cls.wire, role), getattr(wire, role)
        if mine in hints and name in theirs and hints[mine] is not theirs[name]:
            what = "a label is found by its event's id" if role == "id" else "a label lies where its event's key lies"
            text = f"{of.__name__}.{name} is {type_name(theirs[name])}: {what}"
            yield f"{cls.__name__}.{mine}: its type is {type_name(hints[mine])}, and that of {text}"
    if field not in cls.__struct_fields__:
        fields = ", ".join(cls.__struct_fields__)
        yield f'{cls.__name__}: truth="{field}" names no field; the fields are {fields}'
    elif not (set(_parts(hints[field])) <= {int, float, bool, type(None)} or is_text(hints[field])):
        said = type_name(hints[field])
        yield f"{cls.__name__}.{field}: its type is {said}; allowed are int, float and bool, and str of classes"
    named = field in hints and is_text(hints[field])
    if otherwise is not None and named != isinstance(otherwise, str):
        allowed = "text" if named else "a number"
        yield f"{cls.__name__}: otherwise={otherwise!r}: allowed is what may stand in {field!r}, {allowed}"
    elif isinstance(otherwise, float | int) and not math.isfinite(otherwise):
        yield f"{cls.__name__}: otherwise={otherwise}: allowed are finite numbers"
    try:
        span = seconds(within)
    except ValueError as error:
        if within:
            yield f"{cls.__name__}: within: {error}"
        else:
            yield f'{cls.__name__}: within is missing: how long after its event may a label come? like within="7d"'
    else:
        first = otherwise if isinstance(otherwise, str) else None
        number = None if otherwise is None else 0.0 if isinstance(otherwise, str) else float(otherwise)
        cls.truth = Truth(of, field, span, number, named, first)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def is_text(hint: Any) -> bool:
    """Say whether a field of this type holds text, or nothing: ``str``, or some texts by ``Literal``.

    >>> is_text(str | None), is_text(Literal["cat", "dog"]), is_text(int)
    (True, True, False)
    """
    if get_origin(hint) is Literal:
        return all(isinstance(one, str) for one in get_args(hint))
    some = get_args(hint)
    return hint is str or (bool(some) and all(one is type(None) or is_text(one) for one in some))


def type_name(hint: Any) -> str:
    """Return a type as a person writes it.

    >>> type_name(float), type_name(float | None)
    ('float', 'float | None')
    """
    return (
        " | ".join(map(type_name, get_args(hint)))
        if get_args(hint)
        else getattr(hint, "__name__", str(hint)).replace("NoneType", "None")
    )


def columns_of(cls: type[Event]) -> dict[str, Any]:
    """Return the class's fields with their types, in the order in which they were declared."""
    hints = get_type_hints(cls)
    return {name: hints[name] for name in cls.__struct_fields__}
