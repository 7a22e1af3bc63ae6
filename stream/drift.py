"""What is watched, as a page says it; and what is usual, learned from events and kept in a file beside the page."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from headrace.models.pipeline import Pipeline
from headrace.models.usual import Gathering, watch_of
from headrace.models.watch import Watch
from headrace.schemas.codec import EventCodec
from headrace.schemas.config import Config
from headrace.schemas.errors import BadReference
from headrace.schemas.event import Event
from headrace.schemas.order import Action
from headrace.schemas.position import Asked
from headrace.stream.artifact import beside
from headrace.stream.files import open_source
from headrace.stream.replay import Progress, with_group
from headrace.stream.slice import Reader, find

REFERENCE = "reference.json"


class Wanted(NamedTuple):
    """What a page wants to be learned."""

    path: Path
    slices: tuple[str, ...]
    every: str
    warm_up: str | None = None
    season: str | None = None


_learning: list[Wanted] | None = None  # what pages asked for, while there is somebody who learns it


def Drift(  # noqa: N802 - on a page it reads like the classes beside it
    reference: str | Path = REFERENCE,
    *,
    false_alarms: str = "1 per week",
    slices: Sequence[str] = (),
    every: str = "10s",
    warm_up: str | None = None,
    when: Mapping[str, Action | Sequence[Action]] | None = None,
    against: str | None = None,
    season: str | None = None,
    reasons: bool = False,
) -> Watch | None:
    """Watch the stream for changes, against what is usual: for ``Pipeline(watch=...)``.

    ``reference`` is a file that ``headrace drift learn`` has made of events in which all was well; a relative path is
    relative to the file that says it. ``false_alarms`` bounds those of everything that is watched together, however
    long it runs: ``"1 per week"``, ``"2 per day"``. ``slices`` are fields of which the frequent values are watched on
    their own as well. ``every`` is how much time of the events is looked at at once, and so how soon news come.
    ``warm_up`` is for how long after the first event nothing is looked at, nor learned: as long as features remember.
    ``when`` says what is done about alerts by itself: ``{"errors": [fall_back, restart_learner]}``.
    ``against="last 7d"`` has what is usual follow the stream, from the reference on. ``season="1d"`` compares with the
    same hour of other days. ``reasons`` has it watched too which feature contributed most to each score.

    >>> Drift("no/such/reference.json")
    Traceback (most recent call last):
    headrace.schemas.errors.BadReference: .../no/such/reference.json: there is no such file; make it by `headrace drift
    learn PAGE EVENTS`
    """
    path = beside(reference, sys._getframe(1).f_globals.get("__file__"))  # noqa: SLF001 - who says the path
    if _learning is not None:
        _learning.append(Wanted(path, tuple(slices), every, warm_up, season))
        return None
    data = read(path)
    lacking = [field for field in slices if field not in data["slices"]]
    if lacking:
        raise BadReference(
            f"{path}: it was learned without slices of {', '.join(lacking)}; make it anew by `headrace drift learn`"
        )
    data["slices"] = {field: data["slices"][field] for field in slices}
    try:
        return watch_of(
            data,
            false_alarms=false_alarms,
            every=every,
            warm_up=warm_up,
            when=when,
            against=against,
            season=season,
            reasons=reasons,
        )
    except ValueError as error:
        raise BadReference(f"{path}: {error}") from error


def read(path: Path) -> dict[str, Any]:
    """Return what a reference says."""
    try:
        data: dict[str, Any] = orjson.loads(path.read_bytes())
        watch_of(data)
    except FileNotFoundError as error:
        raise BadReference(f"{path}: there is no such file; make it by `headrace drift learn PAGE EVENTS`") from error
    except OSError as error:
        raise BadReference(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, AssertionError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise BadReference(f"{path}: it is no reference that can be read ({cause}); make it anew") from error
    return data


@contextmanager
def to_be_learned() -> Iterator[list[Wanted]]:
    """Let pages say what they want to have learned, although it is not there yet."""
    global _learning  # noqa: PLW0603 - pages are imported, and cannot be given anything
    wanted: list[Wanted] = []
    _learning = wanted
    try:
        yield wanted
    finally:
        _learning = None


def learn(
    pipeline: Pipeline,
    wanted: Wanted,
    *,
    source: str | None = None,
    config: Config | None = None,
    asked: Asked | None = None,
) -> str:
    """Learn what is usual from a file or a part of the topic, and write it where the page looks for it."""
    if source is not None:
        with closing(open_source(source, None, pipeline)) as opened:
            return learned(pipeline, wanted, (batch.events for batch in opened.batches()), told=source)
    assert config is not None
    assert asked is not None
    gathering = Gathering(pipeline, slices=wanted.slices, warm_up=wanted.warm_up)
    _read_topic(gathering, pipeline, with_group(pipeline, config), asked)
    return _written(gathering, wanted, pipeline.wire.topic)


def learned(pipeline: Pipeline, wanted: Wanted, batches: Iterable[Sequence[Event]], *, told: str = "events") -> str:
    """Learn what is usual from events, write it where the page looks for it, and say what it is."""
    gathering = Gathering(pipeline, slices=wanted.slices, warm_up=wanted.warm_up)
    state = pipeline.fresh(waits=False)
    for batch in batches:
        gathering.take(batch, state)
    return _written(gathering, wanted, told)


def _written(gathering: Gathering, wanted: Wanted, told: str) -> str:
    try:
        data = gathering.data(every=wanted.every, season=wanted.season)
    except ValueError as error:
        raise BadReference(f"{told}: {error}") from error
    fresh = wanted.path.with_suffix(".new")
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_bytes(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    fresh.replace(wanted.path)
    series = len(data["reference"]["series"])
    sliced = ", ".join(f"{len(some)} of {field}" for field, some in data["slices"].items())
    return (
        f"{wanted.path}: {gathering.events:,} events, {series} series, {data['reference']['slices']} slices of time"
        + (f"; values on their own: {sliced}" if sliced else "")
    )


def _read_topic(gathering: Gathering, pipeline: Pipeline, config: Config, asked: Asked) -> None:
    found = find(config, asked._replace(topic=asked.topic or pipeline.wire.topic), remembers=pipeline.looks_back)
    codec = EventCodec(pipeline.events, bytes_max=config.event_bytes_max)
    progress = Progress(found.offset_count, sys.stderr)
    with closing(Reader(config)) as reader, closing(progress):
        for span in found.spans:
            state = pipeline.fresh(waits=False)
            for begin, end, counts in ((span.warm, span.begin, False), (span.begin, span.end, True)):
                for messages in reader.read(found.topic, span.partition, begin, end, count=config.batch_count_max):
                    events, _rejected = codec.decode([message.value() for message in messages])
                    if counts:
                        gathering.take(events, state)
                    elif events:
                        pipeline.transform(events, state)
                    progress.moved(f"learning from {found.topic}[{span.partition}]", len(messages), len(messages))
