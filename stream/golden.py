"""Files of predictions that were looked at once, and that later runs are compared with."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

UPDATE = "HEADRACE_UPDATE_GOLDEN"
REL = 1e-9
SHOWN = 20  # differences, before the rest is only counted
_AGAIN = f"if this is meant: {UPDATE}=1, or update=True, writes the file anew"


def check(path: Path, lines: Sequence[bytes], id_field: str, *, update: bool = False, rel: float = REL) -> None:
    """Compare predictions with those in a file, or write the file."""
    if update or os.environ.get(UPDATE, "").lower() in {"1", "true", "yes"}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return
    if not path.is_file():
        raise AssertionError(f"{path} is not there; {_AGAIN}")
    want = [_read(path, number, line) for number, line in enumerate(path.read_bytes().splitlines(), start=1)]
    got = [msgspec.json.decode(line) for line in lines]
    if told := list(differences(got, want, id_field, rel=rel)):
        more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
        head = f"{path} has {len(want)} predictions, {len(got)} were made, and they differ:"
        raise AssertionError("\n  ".join([head, *told[:SHOWN], *more, _AGAIN]))


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise AssertionError(f"{path}:{number}: no prediction: {error}; {_AGAIN}") from error


def differences(
    got: Sequence[Mapping[str, Any]], want: Sequence[Mapping[str, Any]], id_field: str, *, rel: float = REL
) -> Iterator[str]:
    """Yield what differs, by id and field.

    >>> want = [{"id": "p1", "score": 0.5}, {"id": "p2", "score": 0.5}, {"id": "p3", "score": 0.25}]
    >>> for told in differences([{"id": "p1", "score": 0.75}, {"id": "p3", "score": 0.25}], want, "id"):
    ...     print(told)
    id 'p1': score: got 0.75, want 0.5
    id 'p2': missing
    """
    mine, theirs = _numbered(got, id_field), _numbered(want, id_field)
    told = False
    for name, prediction in theirs.items():
        if name not in mine:
            told = True
            yield f"{_said(id_field, name)}: missing"
            continue
        for field in dict.fromkeys([*prediction, *mine[name]]):
            here, there = mine[name].get(field, _NOTHING), prediction.get(field, _NOTHING)
            if not _same(here, there, rel):
                told = True
                yield f"{_said(id_field, name)}: {field}: got {here!r}, want {there!r}"
    for name in mine:
        if name not in theirs:
            told = True
            yield f"{_said(id_field, name)}: not in the file"
    if not told:
        for number, (here, there) in enumerate(zip(mine, theirs, strict=True), start=1):
            if here != there:
                yield f"the order is another: line {number} is {_said(id_field, here)}, not {_said(id_field, there)}"
                return


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()
Name = tuple[Any, int]  # an id, and which of those that have it


def _numbered(predictions: Sequence[Mapping[str, Any]], id_field: str) -> dict[Name, Mapping[str, Any]]:
    seen: Counter[Any] = Counter()
    numbered = {}
    for one in predictions:
        name = one.get(id_field)
        seen[name] += 1
        numbered[name, seen[name]] = one
    return numbered


def _said(id_field: str, name: Name) -> str:
    return f"{id_field} {name[0]!r}" + (f", number {name[1]} of that id" if name[1] > 1 else "")


def _same(here: Any, there: Any, rel: float) -> bool:
    if isinstance(here, float) and isinstance(there, int | float):
        return math.isclose(here, there, rel_tol=rel)
    return type(here) is type(there) and bool(here == there)
