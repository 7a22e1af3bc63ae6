"""Transforms: from the fields of events to the numbers that a model reads, a column at a time."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from types import UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from headrace.models.hashes import hashes_of, there
from headrace.schemas.event import Event, columns_of
from headrace.schemas.span import seconds

try:
    from headrace.models import _kernel
except ImportError:  # there was no compiler where this was installed
    _kernel = None  # type: ignore[assignment]

Floats = NDArray[np.float64]
Column = NDArray[Any]

EARTH_RADIUS_KM = 6_371.0088
BUCKETS_MAX = 2**31


class FeatureFailed(Exception):
    """A feature raised, or returned something that is not one number per event."""

    def __init__(self, feature: "Feature", name: str, cause: str) -> None:
        super().__init__(f"feature {name!r} ({feature.origin}): {cause}")


class Columns(Mapping[str, Column]):
    """The fields of a batch of events as columns, each built when it is first asked for.

    Numbers and truth values become float64, with NaN where a field is None; everything else stays an
    object. ``missing`` says what stands for None instead. A column cannot be written to: the next feature
    reads it too. ``together`` names numbers that are all built when the first of them is asked for: one look at
    each event instead of many.

    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float | None = None
    >>> Columns([Payment("p1", 0.0, "a7", 5.0), Payment("p2", 0.0, "a7")])["amount"]
    array([ 5., nan])
    >>> Columns([Payment("p1", 0.0, "a7", 5.0), Payment("p2", 0.0, "a7")], {"amount": 1.5})["amount"]
    array([5. , 1.5])
    """

    def __init__(
        self, events: Sequence[Event], missing: Mapping[str, Any] | None = None, together: tuple[str, ...] = ()
    ) -> None:
        assert events, "a batch has at least one event"
        self._events = events
        self._missing = missing or {}
        self._together = together if _kernel is not None else ()
        self._types = _types_of(type(events[0]))
        self._columns: dict[str, Column] = {}
        self._listed: dict[str, list[Any]] = {}
        self._raw: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None and name in self._together:
            self._build_together()
            column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._build(name)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    @property
    def count(self) -> int:
        """How many events the batch has."""
        return len(self._events)

    def listed(self, name: str) -> list[Any]:
        """Return the field of each event as it is."""
        values = self._listed.get(name)
        if values is None:
            values = self._listed[name] = list(map(attrgetter(name), self._events))
        return values

    def raw(self, name: str) -> list[Any]:
        """Return the field of each event as it is, or what stands for it where it is missing."""
        if name not in self._missing:
            return self.listed(name)
        values = self._raw.get(name)
        if values is None:
            absent = self._missing[name]
            values = self._raw[name] = [absent if value is None else value for value in self.listed(name)]
        return values

    def types_of(self, name: str) -> tuple[Any, ...]:
        """Return the types that a field may have."""
        return parts(self._types[name])

    def _build_together(self) -> None:
        names, self._together = self._together, ()
        made = np.empty((len(names), self.count))
        try:
            _kernel.numbers(self._events, names, made)
        except Exception:  # noqa: BLE001 - a field that cannot be a number says so when it is asked for
            return
        made.flags.writeable = False
        self._columns.update(zip(names, made, strict=True))

    def _build(self, name: str) -> Column:
        values = map(attrgetter(name), self._events)
        column: Column
        if not is_number(self._types[name]):
            column = np.empty(self.count, object)
            column[:] = self.raw(name)
        elif type(None) in parts(self._types[name]):
            absent = self._missing.get(name, np.nan)
            column = np.array([absent if value is None else value for value in values], np.float64)
        else:
            column = np.fromiter(values, np.float64, self.count)
        column.flags.writeable = False
        return column


_TYPES: dict[type[Event], dict[str, Any]] = {}


def _types_of(cls: type[Event]) -> dict[str, Any]:
    types = _TYPES.get(cls)
    if types is None:
        types = _TYPES[cls] = columns_of(cls)
    return types


def parts(hint: Any) -> tuple[Any, ...]:
    """Return the types that a union unites, or the type itself.

    >>> parts(float | None), parts(list[float])
    ((<class 'float'>, <class 'NoneType'>), (list[float],))
    """
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def is_number(hint: Any) -> bool:
    """Say whether a field of this type becomes a column of numbers."""
    return all(part in (int, float, bool, type(None)) for part in parts(hint))


class Feature:
    """A named transform: which fields it reads, and the function that makes one column of them.

    What a function may do is look at each event on its own: where a batch is cut must not show in the
    result. ``headrace.models.laws`` checks that.
    """

    def __init__(self, function: Callable[..., Any], fields: Sequence[str], *, origin: str) -> None:
        self.fields = tuple(fields)
        self.origin = origin
        self.__doc__ = function.__doc__
        self._function = function

    def __repr__(self) -> str:
        return f"<Feature of {', '.join(self.fields)}, {self.origin}>"

    def column(self, name: str, columns: Columns) -> Floats:
        """Return one number per event, or raise ``FeatureFailed``, which says where."""
        try:
            made = np.asarray(self._function(*[columns[field] for field in self.fields]), np.float64)
        except Exception as error:
            raise FeatureFailed(self, name, _cause(error, self._function)) from error
        if made.shape != (columns.count,):
            cause = f"returned shape {made.shape}, expected ({columns.count},): one number per event"
            raise FeatureFailed(self, name, cause)
        return made


def _cause(error: Exception, function: Callable[..., Any]) -> str:
    """Say what was raised, and on which line of the user's own file."""
    text = f"raised {type(error).__name__}: {error}"
    code = getattr(function, "__code__", None)
    trace = error.__traceback__
    line = None
    while trace is not None:
        if trace.tb_frame.f_code is code:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{text} (line {line})" if line else text


def feature(function: Callable[..., Any]) -> Feature:
    """Make a feature of a function whose parameters are named like fields.

    The function gets whole columns, so it is written with operators and numpy; it runs once per batch.

    >>> @feature
    ... def night(at):
    ...     "One between 22 and 6 o'clock, else zero."
    ...     hour = at / 3600 % 24
    ...     return (hour >= 22) | (hour < 6)
    >>> night.fields
    ('at',)
    """
    code = function.__code__
    file = code.co_filename.rsplit("/", 1)[-1]
    origin = f"{function.__name__}, {file}:{code.co_firstlineno}"
    return Feature(function, tuple(inspect.signature(function).parameters), origin=origin)


def field(name: str) -> Feature:
    """Take the field as it is."""
    return Feature(lambda values: values, [name], origin=f"field({name!r})")


def log1p(name: str) -> Feature:
    """Take the logarithm of one plus the field, which tames sums of money.

    >>> log1p("amount").fields
    ('amount',)
    """
    return Feature(np.log1p, [name], origin=f"log1p({name!r})")


def differs(name: str, value: object) -> Feature:
    """Say one where the field is not ``value``, else zero."""
    return Feature(lambda values: values != value, [name], origin=f"differs({name!r}, {value!r})")


def multiple_of(name: str, step: float) -> Feature:
    """Say one where the field is a multiple of ``step``, else zero: round amounts, for one."""
    return Feature(lambda values: values % step == 0, [name], origin=f"multiple_of({name!r}, {step!r})")


def hashed(name: str, *, buckets: int, missing: float = -1.0) -> Feature:
    """Take a number from 0 to ``buckets - 1`` that stands for the field's value; ``missing`` where there is none.

    For fields of more values than ``code`` could name. Which bucket a value falls into never changes, in no other
    process and no later release, so a model may learn from it. Numbers that are equal share one: 5 and 5.0. Values
    that share a bucket are not told apart: of ``v`` values in ``b`` buckets a share of about ``v / b`` meets another.

    >>> class Visit(Event, topic="visits", key="user"):
    ...     id: str
    ...     at: float
    ...     user: str
    ...     page: str | None = None
    >>> visits = [Visit("v1", 0.0, "u", "/cart"), Visit("v2", 1.0, "u", "/shop"), Visit("v3", 2.0, "u")]
    >>> hashed("page", buckets=1_000).column("page", Columns(visits))
    array([...])
    """
    said = f"hashed({name!r}, buckets={buckets!r})"
    if not 2 <= buckets <= BUCKETS_MAX:
        raise ValueError(f"{said}: allowed are 2 to {BUCKETS_MAX} buckets")

    def bucket(values: Column) -> Column:
        return np.where(there(values), hashes_of(values).view(np.uint64) % np.uint64(buckets), missing)

    return Feature(bucket, [name], origin=said)


def code(name: str, values: Sequence[object], *, unknown: float = -1.0, missing: float = -2.0) -> Feature:
    """Take the place that the field's value has in ``values``, from zero on.

    ``unknown`` stands for a value that is not among them, ``missing`` for none.

    >>> code("country", ["FR", "DE"])
    <Feature of country, code('country', ['FR', 'DE'])>
    """
    said = f"code({name!r}, {values!r})"
    places = {value: float(place) for place, value in enumerate(_told_apart(values, said))}

    def place(column: Column) -> Column:
        found = [places.get(value, unknown) for value in column.tolist()]
        return np.where(there(column), found, missing)

    return Feature(place, [name], origin=said)


def one_hot(name: str, values: Sequence[object]) -> dict[str, Feature]:
    """Make a feature of each value: one where the field has it, else zero. They are spliced into a pipeline's features.

    A value that is not among them, and a missing one, are zero in all.

    >>> features = {"amount": log1p("amount"), **one_hot("country", ["FR", "DE"])}
    >>> list(features)
    ['amount', 'country=FR', 'country=DE']
    """
    said = f"one_hot({name!r}, {values!r})"
    made = {
        f"{name}={value}": Feature(
            lambda column, value=value: column == value, [name], origin=f"{said}['{name}={value}']"
        )
        for value in _told_apart(values, said)
    }
    if len(made) < len(values):
        raise ValueError(f"{said}: two features would have one name, there are {', '.join(made)}")
    return made


def cyclic(name: str, period: str) -> dict[str, Feature]:
    """Make two features of a time: sine and cosine of where in the period it lies, so that 23:59 is close to 0:00.

    ``"1d"`` is the hour of the day, ``"1w"`` the day of the week. A period begins with 1970-01-01 in UTC, a Thursday;
    where it begins makes no difference to a model that reads both.

    >>> list(cyclic("at", "1d"))
    ['sin(at, 1d)', 'cos(at, 1d)']
    """
    length = seconds(period)
    return {
        f"{said}({name}, {period})": Feature(
            lambda times, wave=wave: wave(times % length * (2 * np.pi / length)),
            [name],
            origin=f"cyclic({name!r}, {period!r})['{said}({name}, {period})']",
        )
        for said, wave in (("sin", np.sin), ("cos", np.cos))
    }


def _told_apart(values: Sequence[object], said: str) -> Sequence[object]:
    """Return the values if they are some and each is there once, or raise."""
    if isinstance(values, str) or not values:
        raise ValueError(f"{said}: allowed is a list of values, and at least one")
    for value in values:
        if value is None:
            raise ValueError(f"{said}: None is no value, it is what a missing one is")
        if values.count(value) > 1:
            raise ValueError(f"{said}: {value!r} is named twice, and each value has one place")
    return values


def distance_km(lat: str, lon: str, *, of: tuple[float, float]) -> Feature:
    """Measure the great circle between the event's place and a fixed one, in kilometres.

    >>> class Visit(Event, topic="visits", key="user"):
    ...     id: str
    ...     at: float
    ...     user: str
    ...     lat: float
    ...     lon: float
    >>> far = distance_km("lat", "lon", of=(48.8566, 2.3522))
    >>> far.column("far", Columns([Visit("v1", 0.0, "u", 51.5074, -0.1278)])).round(1)
    array([343.6])
    """
    return Feature(
        lambda lats, lons: great_circle_km(*of, lats, lons),
        [lat, lon],
        origin=f"distance_km({lat!r}, {lon!r}, of={of!r})",
    )


def great_circle_km(lat_from: Any, lon_from: Any, lat: Column, lon: Column) -> Column:
    """Return the length of the great circle between two places given in degrees.

    >>> great_circle_km(*np.array([[48.8566], [2.3522], [51.5074], [-0.1278]])).round(1)
    array([343.6])
    """
    phi_from, lam_from, phi, lam = np.radians(lat_from), np.radians(lon_from), np.radians(lat), np.radians(lon)
    a = np.sin((phi - phi_from) / 2) ** 2 + np.cos(phi) * np.cos(phi_from) * np.sin((lam - lam_from) / 2) ** 2
    made: Column = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(a, 1.0)))
    return made
