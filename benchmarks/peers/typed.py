"""Event and prediction as typed structs: what is sent, and what the peers use that leave JSON to the user."""

import msgspec


class Transaction(msgspec.Struct, gc=False):
    """One event on the wire, about 150 bytes."""

    id: str
    at: float
    card: str
    merchant: str
    amount: float
    lat: float
    lon: float
    country: str


class Labelled(Transaction, gc=False):
    """A transaction that tells at once what it turned out to be."""

    label: int


class Prediction(msgspec.Struct, gc=False):
    id: str
    at: float
    card: str
    score: float
    static: float
    online: float | None = None
    model: str = "fraud"
    version: str = "1"


decode = msgspec.json.Decoder(Transaction).decode
decode_labelled = msgspec.json.Decoder(Labelled).decode
encode = msgspec.json.Encoder().encode
