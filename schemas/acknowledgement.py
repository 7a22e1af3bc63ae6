"""What a person says of an alert: I have seen it."""

import msgspec

BY_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 2_000


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody has seen the alert that has this ``id``, which is the key of the record too.

    ``at`` is when it was said, in seconds since 1970, ``by`` whom, and ``note`` what else they said. Whoever raised the
    alert reads it and publishes the alert as acknowledged. A second one of the same alert is one more note.

    >>> msgspec.json.encode(Acknowledgement(id="drift-amount-7", at=12.5, by="ada", note="new merchant"))
    b'{"id":"drift-amount-7","at":12.5,"by":"ada","note":"new merchant"}'
    """

    id: str
    at: float
    by: str = ""
    note: str = ""
