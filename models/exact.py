"""Sums of floats to the last bit, so that neither the order nor a cut can show in them."""

from math import frexp

import numpy as np

from headrace.models.memory import Floats, Ints

POINT = 1_140  # bits behind the point of a sum: more than the smallest float has, and room for the first cut below it
_BITS = 30  # that are summed at once: with as many rows as _ROWS, a float still holds every sum
_ROWS = 1 << 22


def exact_sums(values: Floats, groups: Ints, count: int) -> list[int]:
    """Return the sum of each group's values in units of ``2**-POINT``, as a whole number without any rounding.

    The values are cut into slices of 30 bits, counted from the largest one. The sum of a slice fits into a float, and
    what is left of a value after its slice was taken is a float again. So nothing is lost on the way, and sums of sums
    are the sums of everything. Two or three slices are enough unless the values differ by more than ten digits.

    >>> (0.1 + 0.2) + 0.3 == 0.1 + (0.2 + 0.3)
    False
    >>> values, groups = np.array([0.1, 0.2, 0.3]), np.zeros(3, np.int64)
    >>> (whole,) = exact_sums(values, groups, 1)
    >>> sum(exact_sums(values[at : at + 1], groups[:1], 1)[0] for at in range(3)) == whole
    True
    >>> as_float(whole)
    0.6
    """
    sums = [0] * count
    for begin in range(0, len(values), _ROWS):
        left, of = values[begin : begin + _ROWS].copy(), groups[begin : begin + _ROWS]
        while (top := float(np.abs(left).max())) != 0.0:
            assert top < np.inf, "what is no finite number has no place in a sum"
            shift = _BITS - frexp(top)[1]
            taken = np.rint(np.ldexp(left, shift))
            left -= np.ldexp(taken, -shift)
            for group, part in enumerate(np.bincount(of, taken, count).tolist()):
                if part:
                    sums[group] += int(part) << (POINT - shift)
    return sums


def as_float(total: int, divisor: int = 1) -> float:
    """Return a sum, or a sum divided by a whole number, as the float that is nearest to it.

    >>> as_float(3 << POINT, 2)
    1.5
    """
    return total / (divisor << POINT)


def written(total: int) -> str:
    """Write a sum down for a snapshot.

    >>> written(3 << POINT), read("3@1140") == 3 << POINT
    ('3@1140', True)
    """
    zeros = max((total & -total).bit_length() - 1, 0)
    return f"{total >> zeros:x}@{zeros}"


def read(text: str) -> int:
    """Read a sum that was written down."""
    bits, zeros = text.split("@")
    return int(bits, 16) << int(zeros)
