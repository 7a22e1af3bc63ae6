"""What a card did in the last five minutes and the last hour: a tile per minute, totals kept up to date.

What somebody who knows Python writes by hand. It is plain data, so a store that keeps JSON can keep it.
"""

SHORT, LONG = 5, 60  # tiles


class Past:
    """The tiles of one card, oldest first, and what they add up to."""

    __slots__ = ("long_count", "long_sum", "short_at", "short_count", "short_sum", "tiles")

    def __init__(self, tiles=None, short_at=0, short_count=0, short_sum=0.0, long_count=0, long_sum=0.0):
        self.tiles = [] if tiles is None else tiles  # of [minute, count, sum]
        self.short_at = short_at  # the first tile of the short window
        self.short_count, self.short_sum = short_count, short_sum
        self.long_count, self.long_sum = long_count, long_sum

    def add(self, at, amount):
        """Take a payment in. Time goes forward, as it does in the input.

        >>> past = Past()
        >>> for at in (0, 59, 60, 300):
        ...     past.add(at, 10.0)
        >>> past.short_count, past.long_sum
        (2, 40.0)
        >>> past.add(3600, 10.0)
        >>> past.short_count, past.long_sum
        (1, 30.0)
        """
        now = at // 60
        tiles = self.tiles
        if tiles and tiles[-1][0] == now:
            tile = tiles[-1]
            tile[1] += 1
            tile[2] += amount
        else:
            tiles.append([now, 1, amount])
            while tiles[self.short_at][0] <= now - SHORT:
                _, count, total = tiles[self.short_at]
                self.short_count -= count
                self.short_sum -= total
                self.short_at += 1
            while tiles[0][0] <= now - LONG:
                _, count, total = tiles.pop(0)
                self.long_count -= count
                self.long_sum -= total
                self.short_at -= 1
        self.short_count += 1
        self.short_sum += amount
        self.long_count += 1
        self.long_sum += amount

    def dump(self):
        """Return what ``Past(*dumped)`` makes this from again."""
        return [self.tiles, self.short_at, self.short_count, self.short_sum, self.long_count, self.long_sum]
