"""What Headrace publishes when the world, or the worker, needs a look."""

import msgspec


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know, with what shows it.

    ``state`` moves from raised to cleared; both carry the same ``id``, so a subscriber can pair them.

    >>> msgspec.json.encode(Alert(id="drift-amount-7", at=12.5, kind="drift", state="raised", text="amount moved"))
    b'{"id":"drift-amount-7","at":12.5,"kind":"drift","state":"raised","text":"amount moved","evidence":{}}'
    """

    id: str
    at: float
    kind: str
    state: str
    text: str
    evidence: dict[str, float | str] = {}
