from headrace.models.memory import Floats

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
