"""A file in, a file of predictions out: what a worker would have published for the same events in this order."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TextIO

from headrace.models.pipeline import Effects, Pipeline
from headrace.schemas.codec import encode
from headrace.schemas.dead_letter import RejectedRow, Rejection
from headrace.schemas.errors import RowsRejected
from headrace.stream.files import STANDARD, Batch, Source, Target, format_of, letters_beside, open_sink, open_source
from headrace.stream.summary import Rejections

PROGRESS_SECONDS = 0.5
Step = Callable[[Sequence[Any]], Effects]


class Summary:
    """How many rows were scored, and why the others were not."""

    def __init__(self) -> None:
        self.scored = 0
        self.rejections = Rejections()
        self.seconds = 0.0

    @property
    def rejected(self) -> int:
        """How many rows have no prediction."""
        return self.rejections.count

    def told(self, letters: str | None = None) -> str:
        """Return what a person is told at the end."""
        rows = self.scored + self.rejected
        rate = f"{rows / self.seconds:,.0f} rows/s" if self.seconds else "at once"
        noun = "row" if self.scored == 1 else "rows"
        head = f"{self.scored:,} {noun} scored, {self.rejected:,} rejected, in {self.seconds:.1f} s ({rate})"
        where = [f"they are in {letters}"] if self.rejected and letters else []
        return "\n  ".join([head, *self.rejections.lines(examples=not letters), *where])


def score(
    pipeline: Pipeline,
    source: str,
    target: str = STANDARD,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    dead_letters: str | None = None,
    strict: bool = False,
    force: bool = False,
    progress: TextIO | None = None,
) -> Summary:
    """Score every row of ``source`` into ``target``.

    The whole file is one partition, in its own order. ``target`` appears when it is whole; with ``strict`` a
    rejected row keeps it from appearing. ``dead_letters`` appears whenever the source was read to its end.
    """
    format_of(target, target_format)
    out = Target(target, force=force)
    letters = letters_beside(dead_letters, target, force=force) if dead_letters else None
    opened = open_source(source, source_format, pipeline)
    step: Step = partial(pipeline.step, state=pipeline.fresh(waits=False))  # the file is one partition, in its order
    summary, began = Summary(), time.monotonic()
    with ExitStack() as stack:
        stack.callback(opened.close)
        stack.enter_context(out)
        sink = open_sink(out, target_format, pipeline)
        stack.callback(sink.abandon)
        if letters:
            stack.enter_context(letters)
        for batch in _with_progress(opened, summary, progress):
            predictions, rejections = _scored(step, batch)
            with out.writing():
                sink.write(predictions)
            summary.scored += len(predictions)
            for one in rejections:
                summary.rejections.add(f"row {batch.numbers[one.at]}", one)
            if letters and rejections:
                with letters.writing():
                    letters.file.writelines(_letter(batch, one) for one in rejections)
        if letters:
            letters.keep()
        summary.seconds = time.monotonic() - began
        if strict and summary.rejected:
            fate = f": {target} is not written" if out.is_held_back else ""
            raise RowsRejected(f"{source}: {summary.told(dead_letters)}\n  --strict allows none{fate}")
        with out.writing():
            sink.finish()
        out.keep()
        summary.seconds = time.monotonic() - began
    return summary


def _scored(step: Step, batch: Batch) -> tuple[list[Any], list[Rejection]]:
    """Return the predictions of a batch, in the order of its rows, and why the other rows have none."""
    effects = step(batch.events)
    if not effects.rejections:
        return effects.predictions, batch.rejections
    refused = {one.at for one in batch.rejections}
    kept = [at for at in range(len(batch.numbers)) if at not in refused]
    late = [one._replace(at=kept[one.at]) for one in effects.rejections]
    return effects.predictions, sorted([*batch.rejections, *late])


def _letter(batch: Batch, rejection: Rejection) -> bytes:
    row = RejectedRow(
        row=batch.numbers[rejection.at],
        reason=rejection.reason,
        message=rejection.message,
        original=batch.original(rejection.at),
    )
    return encode(row) + b"\n"


def _with_progress(source: Source, summary: Summary, progress: TextIO | None) -> Iterator[Batch]:
    """Go through the batches; a terminal is told twice a second how far it is."""
    if progress is None or not progress.isatty():
        yield from source.batches()
        return
    began = told = time.monotonic()
    try:
        for batch in source.batches():
            yield batch
            if (now := time.monotonic()) - told > PROGRESS_SECONDS:
                told, rows, share = now, summary.scored + summary.rejected, source.share()
                part = "" if share is None else f"{share:4.0%}  "
                progress.write(f"\r\x1b[K{part}{rows:,} rows  {rows / (now - began):,.0f} rows/s")
                progress.flush()
    finally:
        progress.write("\r\x1b[K")
        progress.flush()


def main(pipeline: Pipeline, source: str, target: str, **options: Any) -> None:
    """Score a file, and tell on stderr what came of it."""
    summary = score(pipeline, source, target, progress=sys.stderr, **options)
    print(summary.told(options.get("dead_letters")), file=sys.stderr, flush=True)  # noqa: T201
