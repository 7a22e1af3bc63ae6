"""How far each webhook is in a partition of the alerts, and how far all of them are."""

from collections.abc import Iterable, Mapping

import msgspec

from headrace.schemas.codec import encode

UNKNOWN = -1  # nothing was committed, and nothing was read yet
_decode = msgspec.json.Decoder(dict[str, int]).decode


class Place:
    """How far one webhook is: what is below ``upto`` was taken in, and of that, what is in ``waiting`` is not done."""

    def __init__(self, upto: int) -> None:
        self.upto = upto
        self.waiting: dict[int, None] = {}  # in the order of offsets
        self.left = False  # something at or after upto was read, and there was no room for it

    @property
    def done(self) -> int:
        """The offset below which everything is done."""
        return next(iter(self.waiting), self.upto)


class Progress:
    """How far the webhooks are in one partition, each at its own pace.

    The group's offset is where the slowest is. What the others have done beyond it is kept beside the offset, as its
    metadata, so that after a restart they do not get again what they have.

    >>> progress = Progress(5, ["a", "b"])
    >>> for offset in (5, 6, 7):
    ...     for name in ("a", "b"):
    ...         progress.take(name, offset)
    >>> for offset in (5, 6):
    ...     progress.settle("a", offset)
    >>> progress.committed
    (5, '{"a":7}')
    >>> again = Progress(5, ["a", "b", "new"], progress.committed[1])
    >>> again.wants("a", 6), again.wants("b", 6), again.wants("new", 6)
    (False, True, True)
    """

    def __init__(self, begin: int, webhooks: Iterable[str], metadata: str = "") -> None:
        ahead = _read(metadata)
        self.places = {name: Place(max(begin, ahead.get(name, begin))) for name in webhooks}

    def wants(self, name: str, offset: int) -> bool:
        """Say whether a webhook wants what is at this offset."""
        place = self.places[name]
        return offset >= place.upto and not place.left

    def take(self, name: str, offset: int) -> None:
        """Note that it was taken in for a webhook."""
        self.places[name].waiting[offset] = None
        self.places[name].upto = offset + 1

    def skip(self, name: str, upto: int) -> None:
        """Note that there is nothing for a webhook below this offset."""
        place = self.places[name]
        if not place.left:
            place.upto = max(place.upto, upto)

    def leave(self, name: str, offset: int) -> None:
        """Note that there was no room for what is at this offset; from there on it is read again later."""
        self.skip(name, offset)
        self.places[name].left = True

    def settle(self, name: str, offset: int) -> None:
        """Note that a webhook has taken it, or that it was given up there."""
        self.places[name].waiting.pop(offset, None)

    @property
    def committed(self) -> tuple[int, str]:
        """The offset that is committed, and its metadata."""
        offset = min(place.done for place in self.places.values())
        ahead = {name: place.done for name, place in self.places.items() if place.done > offset}
        return offset, encode(ahead).decode() if ahead else ""


def _read(metadata: str) -> Mapping[str, int]:
    # Whoever resets offsets with a tool leaves nothing here, or something of their own.
    try:
        return _decode(metadata or "{}")
    except msgspec.DecodeError:
        return {}
