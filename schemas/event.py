"""What producers write: events and labels, declared as classes."""

from typing import Any, ClassVar, NamedTuple, get_args, get_type_hints

import msgspec

from headrace.schemas.errors import BadPipeline


class Wire(NamedTuple):
    """Where a class of records lives, and which of its fields say who, what and when."""

    topic: str
    key: str
    id: str
    time: str


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
        **options: Any,
    ) -> Any:
        # Millions of these live for a millisecond each and never in a cycle: the collector need not see them.
        options.setdefault("gc", False)
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
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

    >>> class Chargeback(Label, topic="labels", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     label: int
    >>> Chargeback.wire.topic
    'labels'
    """


# What a prediction adds to the event's own id, time and key.
OURS = frozenset({"score", "static", "online", "model", "version"})
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
    if problems:
        raise BadPipeline(sorted(problems))


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
