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
