"""The bare loop with a memory: per card, events and their sum over five minutes and an hour, in a dictionary.

What somebody who knows Python writes by hand: a tile per minute, totals that are kept up to date as tiles come
and go. Nothing of it survives the process.
"""

from collections import deque
from math import exp

import bare_job

SHORT, LONG = 5, 60  # tiles
_cards = {}


class Past:
    """The tiles of one card, and what they add up to."""

    __slots__ = ("long", "long_count", "long_sum", "short", "short_count", "short_sum")

    def __init__(self):
        self.short, self.short_count, self.short_sum = deque(), 0, 0.0
        self.long, self.long_count, self.long_sum = deque(), 0, 0.0


def scored(event):
    """Take the event in, and return its score."""
    now = event.at // 60
    past = _cards.get(event.card)
    if past is None:
        past = _cards[event.card] = Past()
    amount = event.amount
    short, long = past.short, past.long
    if long and long[-1][0] == now:
        tile = long[-1]
        tile[1] += 1
        tile[2] += amount
    else:
        tile = [now, 1, amount]
        short.append(tile)
        long.append(tile)
        while short[0][0] <= now - SHORT:
            _, count, total = short.popleft()
            past.short_count -= count
            past.short_sum -= total
        while long[0][0] <= now - LONG:
            _, count, total = long.popleft()
            past.long_count -= count
            past.long_sum -= total
    past.short_count += 1
    past.short_sum += amount
    past.long_count += 1
    past.long_sum += amount
    z = -4.0 + 0.1 * past.short_count + 0.002 * past.short_sum + 0.01 * past.long_count + 0.0001 * past.long_sum
    return 1 / (1 + exp(-z))


if __name__ == "__main__":
    bare_job.main(__doc__, scored)
