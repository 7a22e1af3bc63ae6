"""State to bytes and back: versioned, checked, and nothing in it that could be executed."""

import zlib
from typing import Any

import msgspec
import numpy as np

from headrace.models.memory import Array

VERSION = 1
MAGIC = b"hrs"
_ARRAY = 1
_TYPES = ("<f8", "<i8", "<i4", "|i1")  # what an array may hold; anything else is no snapshot of ours


class Unreadable(Exception):
    """These bytes are no snapshot, or not a whole one."""


def _pack(value: Any) -> msgspec.msgpack.Ext:
    assert isinstance(value, np.ndarray), f"a {type(value).__name__} is no part of a state"
    array = np.ascontiguousarray(value)
    kind = array.dtype.newbyteorder("<").str
    head = msgspec.msgpack.encode((_TYPES.index(kind), array.shape))
    return msgspec.msgpack.Ext(_ARRAY, bytes([len(head)]) + head + array.astype(kind, copy=False).tobytes())


def _unpack(code: int, data: memoryview) -> Array:
    if code != _ARRAY:
        raise Unreadable(f"extension {code} is unknown")
    length = data[0]
    number, shape = msgspec.msgpack.decode(data[1 : 1 + length], type=tuple[int, tuple[int, ...]])
    if not 0 <= number < len(_TYPES):
        raise Unreadable(f"array type {number} is unknown")
    return np.frombuffer(data[1 + length :], _TYPES[number]).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_pack)
_decoder = msgspec.msgpack.Decoder(ext_hook=_unpack)


def encode(data: Any) -> bytes:
    """Return plain data with arrays in it as bytes that tell when they were damaged.

    >>> decode(encode({"keys": ["a"], "sums": np.array([1.5])}))
    {'keys': ['a'], 'sums': array([1.5])}
    """
    body = _encoder.encode(data)
    return b"".join((MAGIC, bytes([VERSION]), zlib.crc32(body).to_bytes(4, "little"), body))


def decode(blob: bytes | memoryview) -> Any:
    """Return what ``encode`` was given, or raise ``Unreadable``.

    >>> decode(encode([1, 2, 3])[:-1])
    Traceback (most recent call last):
    headrace.models.snapshot.Unreadable: its checksum is wrong: it was damaged, or is only a part
    """
    view = memoryview(blob)
    if bytes(view[:3]) != MAGIC or len(view) < 8:
        raise Unreadable(f"it begins with {bytes(view[:3])!r}, not {MAGIC!r}")
    if view[3] != VERSION:
        raise Unreadable(f"it is of version {view[3]}, and this is for version {VERSION}")
    if zlib.crc32(view[8:]) != int.from_bytes(view[4:8], "little"):
        raise Unreadable("its checksum is wrong: it was damaged, or is only a part")
    try:
        return _decoder.decode(view[8:])
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError) as error:
        raise Unreadable(str(error)) from error
