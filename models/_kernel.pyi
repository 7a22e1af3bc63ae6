from collections.abc import Sequence
from typing import Any

from headrace.models.memory import Array, Floats, Ints

def run(
    settings: Floats,
    scalars: Floats,
    state: Floats,
    columns: tuple[Floats, ...],
    labels: Floats | None,
    scores: Floats | None,
    rows: int,
    /,
) -> int: ...
def bins(
    columns: tuple[Floats, ...], edges: Floats, lengths: Ints, places: Array, out: Array, rows: int, /
) -> None: ...
def windows(
    plan: tuple[Floats, Ints, Ints, Ints],
    keep: float,
    newest: Floats,
    shelf_of: Array,
    place_of: Array,
    shelves: tuple[tuple[Array, ...], ...],
    rows: Ints,
    tags: Floats,
    columns: tuple[Floats, ...],
    out: Floats,
    missed: Ints,
    counts: Ints,
    events: Ints,
    waiting: Ints,
    /,
) -> int: ...
def numbers(events: Sequence[Any], names: tuple[str, ...], out: Floats, /) -> None: ...
