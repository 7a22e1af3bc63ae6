"""A number for every value: the same in every process, on every machine and in every release."""

import struct
from hashlib import blake2b

import numpy as np

from headrace.models.memory import Array, Floats, Ints

_KNOWN: dict[object, int] = {}
_KNOWN_MAX = 1_000_000
_LENGTH_MAX = 256  # a value that is longer is not kept: a million of them would be

_LOW = 2**64 - 1
_BEGIN = 0x9E3779B97F4A7C15  # with nothing added zero would stay zero. This and what follows are splitmix64's.
_SHIFTS, _FACTORS = (30, 27, 31), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def hashes_of(values: Array) -> Ints:
    """Return 64 bits for each value, of which every one depends on the whole value.

    Numbers that are equal have the same, whatever their types, and so do both zeros.

    >>> text = hashes_of(np.array(["FR", None, "FR"], object))
    >>> bool(text[0] == text[2])
    True
    >>> hashes_of(np.array([5.0])).tolist() == hashes_of(np.array([5], object)).tolist()
    True
    """
    if values.dtype != object:
        return _mixed(values + 0.0)  # minus zero becomes zero
    if len(_KNOWN) > _KNOWN_MAX:
        _KNOWN.clear()
    known = _KNOWN.get
    return np.fromiter(
        (number if (number := known(value)) is not None else _hash(value) for value in values), np.int64, len(values)
    )


def draws(values: Array, count: int, *, seed: int = 0) -> Floats:
    """Return so many numbers for each value, from zero to below one, as if drawn; they hang on value and seed alone.

    >>> one = draws(np.array(["r1", "r2"], object), 3, seed=7)
    >>> two = draws(np.array(["r2"], object), 2, seed=7)
    >>> one.shape, one[1, :2].tolist() == two[0].tolist()
    ((2, 3), True)
    """
    (own,) = hashes_of(np.array([seed], object)).view(np.uint64)
    begin = _stirred(hashes_of(values).view(np.uint64) ^ own)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_BEGIN)
    # 52 bits: the largest of them times any number is below that number.
    return (_stirred(begin[:, None] + steps) >> np.uint64(12)).astype(np.float64) * 2.0**-52


def there(values: Array) -> Array:
    """Say which values are not missing.

    >>> there(np.array(["FR", None], object)).tolist(), there(np.array([1.0, np.nan])).tolist()
    ([True, False], [True, False])
    """
    if values.dtype != object:
        return np.isfinite(values)
    return np.fromiter((value is not None for value in values), bool, len(values))


def _mixed(numbers: Array) -> Ints:
    """Stir the bits of floats, of which the first ones hardly differ."""
    stirred: Ints = _stirred(numbers.view(np.uint64) + np.uint64(_BEGIN)).view(np.int64)
    return stirred


def _stirred(mixed: Array) -> Array:
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    stirred: Array = mixed ^ (mixed >> np.uint64(_SHIFTS[-1]))
    return stirred


def _hash(value: object) -> int:
    number = _hash_of_number(value) if isinstance(value, bool | int | float) else None
    if number is None:
        kind = "number" if isinstance(value, int | float) else type(value).__name__
        digest = blake2b(f"{kind} {value}".encode(errors="surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little", signed=True)
    if not isinstance(value, str | bytes) or len(value) <= _LENGTH_MAX:
        _KNOWN[value] = number
    return number


def _hash_of_number(value: float) -> int | None:
    """Return what ``_mixed`` does of the same number, or None where no float is that number."""
    try:
        nearest = float(value)
    except OverflowError:
        return None
    if nearest != value:
        return None
    (mixed,) = struct.unpack("<Q", struct.pack("<d", nearest + 0.0))  # minus zero becomes zero
    mixed = (mixed + _BEGIN) & _LOW
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _LOW
    mixed ^= mixed >> _SHIFTS[-1]
    return int(mixed - 2**64 if mixed >> 63 else mixed)
