"""The state of River's classes that are written in Rust, as the numbers that it consists of."""

import struct
from collections.abc import Iterator
from typing import Any

from river._river_rust import drift, stats


class Unfit(Exception):
    """Something that cannot be kept, or what was kept and makes no sense; the text says why."""


def told(value: Any) -> str:
    """Return a value for an error's text, however long it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Numbers:
    """The numbers that a class's own ``__getstate__`` writes one after the other, and writing them again.

    Rust ends the thread where what it reads does not fit, so nothing but our own writing ever gets there. A letter
    stands for each number, as in ``struct``, ``n`` for a float that is not NaN, and ``[...]`` for a count and as many.
    Objects are made with ``arguments`` of ours, which the numbers then take the place of.

    >>> from river import stats as made_of
    >>> mean = made_of.EWMean(0.5)
    >>> mean.update(3.0)
    >>> numbers = RUST[type(mean._ewmean)].dump(mean._ewmean)
    >>> numbers
    [3.0, 0.5, 0.5, True, 0.5]
    >>> RUST[type(mean._ewmean)].make(type(mean._ewmean), numbers).get()
    3.0
    """

    def __init__(self, letters: str, *arguments: Any) -> None:
        self._fields = _fields(iter(letters))
        self._arguments = arguments

    def dump(self, held: Any) -> list[Any]:
        """Return the object's numbers."""
        state = held.__getstate__()
        numbers: list[Any] = []
        rest = _take(self._fields, memoryview(state), numbers)
        if len(rest) or self._bytes(numbers) != state:
            raise Unfit(f"this version of River writes a {type(held).__qualname__} in another way than is known here")
        return numbers

    def make(self, cls: Any, numbers: Any) -> Any:
        """Return an object that these are the numbers of."""
        if type(numbers) is not list:
            raise Unfit(f"{told(numbers)} stands where numbers belong")
        state = self._bytes(numbers)
        made = cls(*self._arguments)
        made.__setstate__(state)
        return made

    def _bytes(self, numbers: list[Any]) -> bytes:
        left = iter(numbers)
        written = b"".join(_give(self._fields, left))
        if next(left, None) is not None:
            raise Unfit("there are more numbers than belong to it")
        return written


_TYPES = {"d": float, "n": float, "i": int, "Q": int, "B": int, "?": bool}
_Fields = list[Any]  # strings of letters, and lists of fields for what comes several times


def _fields(letters: Iterator[str]) -> _Fields:
    fields: _Fields = [""]
    for letter in letters:
        if letter == "]":
            break
        if letter == "[":
            fields += [_fields(letters), ""]
        else:
            fields[-1] += letter
    return [field for field in fields if field]


def _take(fields: _Fields, data: memoryview, into: list[Any]) -> memoryview:
    """Read numbers off the front of what Rust wrote, and return the rest of it."""
    for field in fields:
        if isinstance(field, str):
            form = struct.Struct(f"<{field.replace('n', 'd')}")
            into += form.unpack_from(data)
            data = data[form.size :]
            continue
        (count,) = struct.unpack_from("<Q", data)
        data = data[8:]
        into.append(count)
        plain = len(field) == 1 and isinstance(field[0], str)
        for several in [[field[0] * count]] if plain and count else [field] * count:
            data = _take(several, data, into)
    return data


def _give(fields: _Fields, numbers: Iterator[Any]) -> Iterator[bytes]:
    """Write numbers as Rust reads them, and take no other."""
    for field in fields:
        number: Any = None
        for letter in field if isinstance(field, str) else "Q":
            number = next(numbers, None)
            if type(number) is not _TYPES[letter] or (letter == "n" and number != number):  # noqa: PLR0124 - NaN
                raise Unfit(f"{told(number)} stands where there was another number")
            yield struct.pack(f"<{letter.replace('n', 'd')}", number)
        if isinstance(field, list):
            for _ in range(number):
                yield from _give(field, numbers)


_QUANTILE = "d" * 21 + "B?"
_SORTED = "[n][d]Q"
_ROLLING = "iQQQ[dQ][dQ]iQ"

RUST: dict[type, Numbers] = {
    stats.RsEWMean: Numbers("ddd?d", 0.5),
    stats.RsEWVar: Numbers("ddd?ddd?dd", 0.5),
    stats.RsIQR: Numbers(_QUANTILE * 2 + "dd", 0.25, 0.75),
    stats.RsKurtosis: Numbers("?ddddddd?", False),
    stats.RsPeakToPeak: Numbers("dd"),
    stats.RsQuantile: Numbers(_QUANTILE, 0.5),
    stats.RsRollingIQR: Numbers(_SORTED + "ddQQQdQQdddQ", 0.25, 0.75, 1),
    stats.RsRollingPRAUC: Numbers(_ROLLING, 1, 1),
    stats.RsRollingQuantile: Numbers(_SORTED + "dQQQddQ", 0.5, 1),
    stats.RsRollingROCAUC: Numbers(_ROLLING, 1, 1),
    stats.RsSkew: Numbers("ddddddd??", False),
    drift.AdaptiveWindowing: Numbers("diQddddddiiii[QQ[d][d]]diQii"),
}
