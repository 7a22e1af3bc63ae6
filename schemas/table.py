"""Columns of cells to events: what CSV and Parquet need beside the codec of the wire."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from types import GenericAlias
from typing import Any, get_args

import msgspec

from headrace.schemas.codec import refused
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.event import Event, columns_of


class TableCodec:
    """Reads the rows of a table as events of one class, a batch of rows at a time.

    A cell that is None is null where the field allows that, and otherwise not there: a table has no other way
    to leave a field out. With ``strict`` off, text is read as the number that it spells, as in CSV.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    ...     note: str | None = None
    >>> codec = TableCodec(Payment, ["id", "at", "amount", "account"], strict=False)
    >>> columns = {"id": ["p1", "p2", "p3"], "at": ["1", "2", "3"], "account": ["a", "a", "a"]}
    >>> codec.decode({**columns, "amount": ["5", "6.5", "7"]})[0][1]
    Payment(id='p2', at=2.0, account='a', amount=6.5, note=None)
    >>> for rejection in codec.decode({**columns, "amount": ["5", "six", None]})[1]:
    ...     print(rejection.at, rejection.reason, rejection.message)
    1 wrong_type Expected `float`, got `str` - at `$.amount`
    2 missing_field Object missing required field `amount` - at `$.amount`
    """

    def __init__(self, events: type[Event], names: Sequence[str], *, strict: bool) -> None:
        self._events = events
        self._strict = strict
        self._time = events.wire.time
        fields = msgspec.structs.fields(events)
        there = set(names)
        self.missing = [field.encode_name for field in fields if field.required and field.encode_name not in there]
        hints = columns_of(events)
        self.types = {field.encode_name: hints[field.name] for field in fields if field.encode_name in there}
        self._nullable = {field.encode_name for field in fields if type(None) in get_args(hints[field.name])}
        self._columns = [(field, GenericAlias(list, (field.type,))) for field in fields]
        self._make: Callable[..., Any] = events
        if any(one.kind is one.KEYWORD_ONLY for one in inspect.signature(events).parameters.values()):
            own = [field.name for field in fields]
            self._make = lambda *values: events(**dict(zip(own, values, strict=True)))

    def decode(self, columns: Mapping[str, Sequence[Any]]) -> tuple[list[Any], list[Rejection]]:
        """Return the events in order, and a rejection for each row that is none."""
        try:
            # Column by column, for the batch that is all well, which is nearly every batch.
            return self._decode_all(columns), []
        except Exception:  # noqa: BLE001, S110 - some row's; below it is pinned to that one
            pass
        events: list[Any] = []
        rejections: list[Rejection] = []
        for index, cells in enumerate(zip(*[columns[name] for name in self.types], strict=True)):
            row = {
                name: cell
                for name, cell in zip(self.types, cells, strict=True)
                if cell is not None or name in self._nullable
            }
            try:
                event = msgspec.convert(row, self._events, strict=self._strict)
            except Exception as error:  # noqa: BLE001 - the user's own class has a say in __post_init__
                rejections.append(refused(index, error))
                continue
            # On the wire there is no such number, so nothing behind this asks again.
            if isinstance(time := getattr(event, self._time), float) and not math.isfinite(time):
                text = f"Expected a finite number, got {time} - at `$.{self._time}`"
                rejections.append(Rejection(index, Reason.WRONG_TYPE, text))
                continue
            events.append(event)
        return events, rejections

    def _decode_all(self, columns: Mapping[str, Sequence[Any]]) -> list[Any]:
        """Decode rows of which each is well, or raise."""
        count = len(next(iter(columns.values())))
        values: list[Any] = []
        for field, hint in self._columns:
            name = field.encode_name
            if name in self.types:
                column = columns[name]
                if name not in self._nullable and None in column:
                    raise ValueError(name)
                values.append(msgspec.convert(column, hint, strict=self._strict))
                if field.name == self._time and not all(map(math.isfinite, values[-1])):
                    raise ValueError(name)
            elif field.default_factory is not msgspec.NODEFAULT:
                values.append([field.default_factory() for _ in range(count)])
            else:
                values.append(repeat(field.default, count))
        return list(map(self._make, *values))
