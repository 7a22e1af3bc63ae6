"""Values that are no objects of their own, as nodes and back.

None, truth values, numbers, strings and bytes are what they are. An object is a list of its number. The rest are lists
with a word in front, such as ``["tuple", [1, 2]]``.
"""

import datetime as dt
import decimal
import enum
import functools
import operator
import re
import types
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from headrace.models.allowed import (
    class_of_name,
    function_of_name,
    method_of_name,
    name_of_class,
    name_of_function,
    name_of_method,
)
from headrace.models.layouts import dtype_name, dtype_of, keys_of, refers
from headrace.models.rust import Unfit, told

WHOLE_MAX = 2**63  # of the numbers that are what they are; msgpack knows no larger ones
AS_IT_IS: frozenset[type] = frozenset({float, bool, type(None), bytes})
SIMPLE: frozenset[type] = AS_IT_IS | {int, str}


class ToNodes(Protocol):
    """The part of the walk through a learner that nodes are made with."""

    def node(self, value: Any) -> Any:
        """Return a value's node."""

    def inner(self, held: Any, word: str, *parts: Iterable[Any]) -> list[Any]:
        """Return a word, and the nodes of each of the parts."""

    def reference(self, held: Any) -> Any:
        """Return an object's number as a node."""


class ToValues(Protocol):
    """The part of making a learner again that nodes are read with."""

    def value(self, node: Any) -> Any:
        """Return what a node stands for."""

    def __call__(self, nodes: Any) -> list[Any]:
        """Return what nodes stand for."""


Dump = Callable[[ToNodes, Any], Any]


# ---- to nodes


def _int(_: ToNodes, value: int) -> Any:
    if -WHOLE_MAX <= value < WHOLE_MAX:
        return value
    return ["int", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]


def _str(_: ToNodes, value: str) -> Any:
    try:
        if not value.isascii():
            value.encode()
    except UnicodeEncodeError:  # half a character: no text, and may still be somebody's key
        return ["str", value.encode("utf-8", "surrogatepass")]
    return value


def _tuple(walk: ToNodes, value: Any) -> Any:
    return walk.inner(value, "tuple", value)


def _named_tuple(walk: ToNodes, value: Any) -> Any:
    return walk.inner(value, "named", [type(value)], tuple.__iter__(value))


def _frozenset(walk: ToNodes, value: Any) -> Any:
    word, elements = walk.inner(value, "frozenset", keys_of(list(value)))
    if any(map(refers, elements)):
        raise Unfit("a frozenset of objects has no order that another process knows")
    return [word, sorted(elements, key=repr)]


def _scalar(_: ToNodes, value: Any) -> Any:
    return ["numpy", dtype_name(value.dtype), value.tobytes()]


def _class(_: ToNodes, value: Any) -> Any:
    return ["class", name_of_class(value)]


def _function(_: ToNodes, value: Any) -> Any:
    return ["function", name_of_function(value)]


def _method(walk: ToNodes, value: Any) -> Any:
    return ["method", walk.node(value.__self__), name_of_method(value)]


def _partial(walk: ToNodes, value: Any) -> Any:
    return walk.inner(value, "partial", [value.func], value.args, value.keywords, value.keywords.values())


def _itemgetter(walk: ToNodes, value: Any) -> Any:
    return walk.inner(value, "itemgetter", value.__reduce__()[1])


def _enum(_: ToNodes, value: Any) -> Any:
    return ["enum", name_of_class(type(value)), value.name]


def _dtype(_: ToNodes, value: Any) -> Any:
    return ["dtype", dtype_name(value)]


def _complex(_: ToNodes, value: complex) -> Any:
    return ["complex", value.real, value.imag]


def _range(walk: ToNodes, value: range) -> Any:
    return walk.inner(value, "range", [value.start, value.stop, value.step])


def _pattern(walk: ToNodes, value: "re.Pattern[Any]") -> Any:
    return walk.inner(value, "pattern", [value.pattern, value.flags])


def _decimal(_: ToNodes, value: decimal.Decimal) -> Any:
    return ["decimal", str(value)]


def _datetime(_: ToNodes, value: dt.datetime) -> Any:
    parts = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
    return ["datetime", parts, value.fold, _offset(value.tzinfo)]


def _date(_: ToNodes, value: dt.date) -> Any:
    return ["date", [value.year, value.month, value.day]]


def _time(_: ToNodes, value: dt.time) -> Any:
    return ["time", [value.hour, value.minute, value.second, value.microsecond], value.fold, _offset(value.tzinfo)]


def _timedelta(_: ToNodes, value: dt.timedelta) -> Any:
    return ["timedelta", [value.days, value.seconds, value.microseconds]]


def _timezone(_: ToNodes, value: dt.timezone) -> Any:
    return ["timezone", _offset(value)]


def _offset(zone: Any) -> Any:
    if zone is None:
        return None
    if type(zone) is not dt.timezone:
        raise Unfit(f"a time in a {type(zone).__qualname__} cannot be kept: take datetime.timezone")
    offset = zone.utcoffset(None)
    return [offset.days, offset.seconds, offset.microseconds]


def _reference(walk: ToNodes, value: Any) -> Any:
    return walk.reference(value)


def _unfit(_: ToNodes, value: Any) -> Any:
    raise Unfit(f"a {type(value).__qualname__} cannot be kept")


_DUMPS: dict[type, Dump | None] = {
    **dict.fromkeys(AS_IT_IS),
    int: _int,
    str: _str,
    tuple: _tuple,
    frozenset: _frozenset,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    types.MethodDescriptorType: _function,
    types.MethodType: _method,
    functools.partial: _partial,
    operator.itemgetter: _itemgetter,
    complex: _complex,
    range: _range,
    re.Pattern: _pattern,
    decimal.Decimal: _decimal,
    dt.datetime: _datetime,
    dt.date: _date,
    dt.time: _time,
    dt.timedelta: _timedelta,
    dt.timezone: _timezone,
    **dict.fromkeys((types.ModuleType, types.GeneratorType, object, type(Ellipsis), type(NotImplemented)), _unfit),
}
_FAMILIES: list[tuple[Any, Dump]] = [
    (type, _class),
    (np.generic, _scalar),
    (np.dtype, _dtype),
    (np.ufunc, _function),
    (enum.Enum, _enum),
    (tuple, _named_tuple),
    (int | float | complex | str | bytes | frozenset, _unfit),
    (object, _reference),
]


def dump_of(kind: type) -> Dump | None:
    """Return how values of a type are made nodes: None where they are what they are."""
    if kind in _DUMPS:
        return _DUMPS[kind]
    return next(dump for family, dump in _FAMILIES if issubclass(kind, family))


# ---- from nodes


def _to_int(_: ToValues, data: Any) -> Any:
    return int.from_bytes(data, "little", signed=True)


def _to_str(_: ToValues, data: Any) -> Any:
    return data.decode("utf-8", "surrogatepass")


def _to_tuple(made: ToValues, values: Any) -> Any:
    return tuple(made(values))


def _to_named_tuple(made: ToValues, cls: Any, values: Any) -> Any:
    (kind,) = made(cls)
    held = made(values)
    if not isinstance(kind, type) or not issubclass(kind, tuple) or len(getattr(kind, "_fields", ())) != len(held):
        raise Unfit(f"{told(kind)} is no class of tuples with {len(held)} names")
    return tuple.__new__(kind, held)


def _to_frozenset(made: ToValues, values: Any) -> Any:
    return frozenset(keys_of(made(values)))


def _to_scalar(_: ToValues, name: Any, data: Any) -> Any:
    (number,) = np.frombuffer(data, dtype_of(name))
    return number


def _to_dtype(_: ToValues, name: Any) -> Any:
    return dtype_of(name)


def _to_class(_: ToValues, name: Any) -> Any:
    return class_of_name(name)


def _to_function(_: ToValues, name: Any) -> Any:
    return function_of_name(name)


def _to_method(made: ToValues, held: Any, name: Any) -> Any:
    return method_of_name(made.value(held), name)


def _to_partial(made: ToValues, function: Any, arguments: Any, names: Any, values: Any) -> Any:
    (called,) = made(function)
    keywords = dict(zip(made(names), made(values), strict=True))
    return functools.partial(called, *made(arguments), **keywords)


def _to_itemgetter(made: ToValues, items: Any) -> Any:
    return operator.itemgetter(*made(items))


def _to_enum(_: ToValues, cls: Any, name: Any) -> Any:
    found: Any = class_of_name(cls)
    if not issubclass(found, enum.Enum):
        raise Unfit(f"{told(cls)} is no enumeration")
    return found.__members__[name]


def _to_complex(_: ToValues, real: Any, imaginary: Any) -> Any:
    return complex(real, imaginary)


def _to_range(made: ToValues, parts: Any) -> Any:
    return range(*made(parts))


def _to_pattern(made: ToValues, parts: Any) -> Any:
    return re.compile(*made(parts))


def _to_decimal(_: ToValues, text: Any) -> Any:
    return decimal.Decimal(text)


def _to_datetime(_: ToValues, parts: Any, fold: Any, offset: Any) -> Any:
    year, month, day, hour, minute, second, microsecond = parts
    return dt.datetime(year, month, day, hour, minute, second, microsecond, _zone(offset), fold=fold)


def _to_date(_: ToValues, parts: Any) -> Any:
    return dt.date(*parts)


def _to_time(_: ToValues, parts: Any, fold: Any, offset: Any) -> Any:
    hour, minute, second, microsecond = parts
    return dt.time(hour, minute, second, microsecond, _zone(offset), fold=fold)


def _to_timedelta(_: ToValues, parts: Any) -> Any:
    return dt.timedelta(*parts)


def _to_timezone(_: ToValues, offset: Any) -> Any:
    return _zone(offset)


def _zone(offset: Any) -> Any:
    return None if offset is None else dt.timezone(dt.timedelta(*offset))


WORDS: dict[str, Callable[..., Any]] = {
    "class": _to_class,
    "complex": _to_complex,
    "date": _to_date,
    "datetime": _to_datetime,
    "decimal": _to_decimal,
    "dtype": _to_dtype,
    "enum": _to_enum,
    "frozenset": _to_frozenset,
    "function": _to_function,
    "int": _to_int,
    "itemgetter": _to_itemgetter,
    "method": _to_method,
    "named": _to_named_tuple,
    "numpy": _to_scalar,
    "partial": _to_partial,
    "pattern": _to_pattern,
    "range": _to_range,
    "str": _to_str,
    "time": _to_time,
    "timedelta": _to_timedelta,
    "timezone": _to_timezone,
    "tuple": _to_tuple,
}
