"""What a worker has published, in a notebook: as frames of pandas, as plots, and the story of one event.

Everything is read as ``headrace explain`` and ``headrace replay`` read: nobody's group hears of it, only what is
committed is seen, and where it ends is settled at the beginning.
"""

import html
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message
from numpy.typing import NDArray

from headrace.models.distances import DISTANCES
from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config, Given, configure, from_environment
from headrace.schemas.errors import TopicMissing
from headrace.schemas.outcome import By
from headrace.schemas.position import EARLIEST, LATEST, Asked, Position
from headrace.stream import explain as explaining
from headrace.stream import report as reporting
from headrace.stream.load import load_pipeline
from headrace.stream.replay import with_group
from headrace.stream.slice import Asking, Log, Reader, find

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from matplotlib.axes import Axes

When = str | datetime | None
Floats = NDArray[np.float64]

READ_COUNT = 1_000
NEWEST = 10_000  # predictions that are read where nobody says which
MODELS = ("static", "online", "score")
LEAST = 1e-15  # of a probability, so that one mistake is not infinitely bad
BINS = 50


def tail(topic: str, n: int = 20, *, broker: str | None = None, **options: Any) -> "pd.DataFrame":
    """Return the newest records of a topic, oldest first, with the fields of their values as columns.

    Values that are no JSON object are in the column ``value``. Where each record lies is in ``kafka.partition``,
    ``kafka.offset``, ``kafka.key`` and ``kafka.written``. ``options`` are those of a worker:
    ``**{"kafka.security.protocol": "SASL_SSL"}``.
    """
    config = _config(broker, options)
    with _open(config) as shelf:
        return _frame(_newest(shelf, topic, n), _fields)


def predictions(
    pipeline: Pipeline | str,
    *,
    broker: str | None = None,
    n: int | None = None,
    since: When = None,
    until: When = None,
    **options: Any,
) -> "pd.DataFrame":
    """Return what a pipeline has predicted, with what became known of each event: newest ``n``, or those of a time.

    ``since`` and ``until`` are of the records, as ``headrace replay`` has them: a time, an offset, ``"earliest"``. The
    index is the time of the events. ``label``, ``by`` and ``known_at`` say what became known last, how, and since when
    it is true; where nothing did they are missing.
    """
    if n is not None and (since is not None or until is not None):
        raise ValueError(f"n = {n} and since or until: say how many, or from when to when")
    pipeline = _loaded(pipeline)
    config = with_group(pipeline, _config(broker, options))
    with _open(config) as shelf:
        topic = config.topic_predictions
        if since is None and until is None:
            made = _newest(
                shelf, topic, NEWEST if n is None else n, lambda one: _said(one).get("model") == pipeline.name
            )
        else:
            asked = Asked(topic, _position(since, EARLIEST), _position(until, LATEST))
            spans = find(config, asked, remembers=False).spans
            logs = {one.partition: Log(one.begin, one.end) for one in spans}
            made = [one for one in shelf.records(topic, logs) if _said(one).get("model") == pipeline.name]
            made.sort(key=_place)
        told = _outcomes(shelf, pipeline, config, made) if pipeline.labels is not None else {}
    return _joined(pipeline, made, told)


class Explained:
    """The story of one event. A notebook shows it as tables; ``str`` is what ``headrace explain`` prints."""

    def __init__(self, story: explaining.Story) -> None:
        self.story = story

    def __repr__(self) -> str:
        return self.story.told()

    def _repr_html_(self) -> str:
        return "".join(_html(self.story))


def explain(
    pipeline: Pipeline | str,
    event: str | int,
    *,
    broker: str | None = None,
    since: When = None,
    **options: Any,
) -> Explained:
    """Return all that is known of an event, by its id or as TOPIC:PARTITION:OFFSET, computed again.

    It is looked for among the records ``since`` then. All before it is read, as its features remember it.
    """
    pipeline = _loaded(pipeline)
    config = _config(broker, options)
    asked = Asked(pipeline.wire.topic, _position(since, EARLIEST))
    return Explained(explaining.explain(pipeline, config, str(event), asked))


def plot_scores(frame: "pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Plot how the scores of each model are spread, those of what became true apart where labels are 0 and 1."""
    axes = _axes(ax)
    labels = _column(frame, "label")
    apart = set(np.unique(labels[~np.isnan(labels)])) == {0.0, 1.0}
    for model in MODELS:
        scores = _column(frame, model)
        there = ~np.isnan(scores)
        if not there.any():
            continue
        edges = np.histogram_bin_edges(scores[there], BINS).tolist()
        for truth in (0.0, 1.0) if apart else (None,):
            some = scores[there if truth is None else there & (labels == truth)]
            name = model if truth is None else f"{model}, label {truth:.0f}"
            axes.hist(some, edges, histtype="step", density=len(some) > 0, label=name)
    axes.set(xlabel="score", ylabel="density", title=f"{len(frame):,} predictions")
    axes.legend()
    return axes


def plot_quality(
    frame: "pd.DataFrame", by: str = "1h", *, measure: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Plot how good each model was, in spans of the events' time: ``"1h"``, ``"1D"``, as pandas writes them.

    ``measure`` is ``log_loss`` (for labels 0 and 1), ``accuracy`` (for classes), or ``mae``; one that fits is taken.
    """
    known = frame[frame["label"].notna()]
    if not len(known):
        raise ValueError(
            f"{len(frame):,} predictions, and nothing became known of any: there is no quality to plot yet"
        )
    name = measure or _measure(known)
    if name not in MEASURES:
        raise ValueError(f"measure = {name!r}: allowed are {', '.join(MEASURES)}")
    axes = _axes(ax)
    for column, errors in MEASURES[name](known).items():
        said = _pandas().Series(errors, index=known.index).dropna().resample(by).mean().dropna()
        if len(said):
            axes.plot(said.index, said.to_numpy(), marker=".", label=column)
    axes.set(ylabel=name, title=f"{len(known):,} labels, by {by}")
    axes.legend()
    return axes


def plot_drift(
    pipeline: Pipeline | str,
    *,
    broker: str | None = None,
    since: When = None,
    until: When = None,
    distance: str = "psi",
    most: int = 6,
    ax: "Axes | None" = None,
    **options: Any,
) -> "Axes":
    """Plot how far what is watched was from what is usual, of the series that moved most, and the alerts beside them.

    It is what ``headrace drift report`` reports; ``since`` and ``until`` are in the time of the events.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance = {distance!r}: allowed are {', '.join(DISTANCES)}")
    pipeline = _loaded(pipeline)
    period = reporting.Period.asked(_position(since, EARLIEST), _position(until, LATEST))
    found = reporting.read(pipeline, _config(broker, options), period)
    axes = _axes(ax)
    at = _dates(found.points)
    with_distance = [one for one in found.series if distance in one.over_time]
    for one in with_distance[:most]:
        axes.plot(at, [math.nan if value is None else value for value in one.over_time[distance]], label=one.name)
    for told in found.told:
        ends = found.end if told.cleared is None else told.cleared
        axes.axvspan(*_dates([told.since, ends]), alpha=0.1, color="red")
    axes.set(ylabel=distance, title=f"{found.pipeline}: {found.events:,} events, {len(found.told)} alerts")
    if with_distance:
        axes.legend()
    return axes


# Where it is read from.


def _config(broker: str | None, options: Mapping[str, Any]) -> Config:
    given = {name: Given(value, "here") for name, value in options.items()}
    if broker is not None:
        given["broker"] = Given(broker, "here")
    return configure(from_environment(os.environ), given)


def _loaded(pipeline: Pipeline | str) -> Pipeline:
    return load_pipeline(pipeline) if isinstance(pipeline, str) else pipeline


def _position(when: When, otherwise: str) -> Position:
    """Return where something begins or ends.

    >>> _position("2026-01-31T09:00Z", EARLIEST).time_ms == _position(datetime(2026, 1, 31, 9), EARLIEST).time_ms
    True
    >>> _position(None, LATEST).said, _position("41", EARLIEST).offset
    ('latest', 41)
    """
    if when is None:
        return Position(otherwise)
    if isinstance(when, datetime):
        return Position.parsed(f"@{when.isoformat()}")
    return Position.parsed(f"@{when}" if "-" in when and not when.startswith("@") else when)


@contextmanager
def _open(config: Config) -> Iterator[explaining.Shelf]:
    with closing(Reader(config)) as reader:
        yield explaining.Shelf(Asking(config), reader)


def _newest(
    shelf: explaining.Shelf, topic: str, n: int, wanted: Callable[[Message], bool] = lambda _one: True
) -> list[Message]:
    """Return the newest records: of each partition as many, because the newest may all be in one."""
    if n < 1:
        raise ValueError(f"n = {n}: allowed are 1 and more")
    found = _backwards(shelf, topic, wanted, lambda some: len(some) >= n, width=n)
    return sorted((one for some in found for one in some[-n:]), key=_place)[-n:]


def _backwards(
    shelf: explaining.Shelf,
    topic: str,
    wanted: Callable[[Message], bool],
    enough: Callable[[Sequence[Message]], bool],
    *,
    width: int,
) -> Iterator[list[Message]]:
    """Yield the last records of each partition, as far back as it takes until there are enough."""
    for number, log in shelf.asking.logs(topic).items():
        some: list[Message] = []
        begin, step = log.end, width
        while not enough(some) and begin > log.first:  # markers of transactions take offsets too
            begin, before = max(log.first, begin - step), begin
            earlier = shelf.records(topic, {number: Log(begin, before)})
            some, step = [one for one in earlier if wanted(one)] + some, 2 * step
        yield some


def _place(message: Message) -> tuple[int, int, int]:
    return message.timestamp()[1], message.partition() or 0, message.offset() or 0


def _outcomes(
    shelf: explaining.Shelf, pipeline: Pipeline, config: Config, made: Sequence[Message]
) -> dict[Any, dict[str, Any]]:
    """Return what became known last of each event, from when the first of these predictions was written."""
    if not made:
        return {}
    name, first = pipeline.wire.id, min(one.timestamp()[1] for one in made) - explaining.EARLIER_MS
    ids = {_said(one).get(name) for one in made}

    def before(some: Sequence[Message]) -> bool:
        return bool(some) and some[0].timestamp()[1] < first

    def ours(one: Message) -> bool:
        said = _said(one)
        return said.get("model") == pipeline.name and said.get("by") != By.ORPHAN

    told: dict[Any, dict[str, Any]] = {}
    try:
        for some in _backwards(shelf, config.topic_outcomes, ours, before, width=READ_COUNT):
            # Of one event all are in one partition, and the last is the last that was said.
            told.update({said[name]: said for said in map(_said, some) if said.get(name) in ids})
    except TopicMissing:
        return {}
    return told


def _said(message: Message) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(message.value() or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _fields(message: Message) -> dict[str, Any]:
    return _said(message) or {"value": message.value()}


# Frames.


def _frame(messages: Iterable[Message], fields: Callable[[Message], dict[str, Any]]) -> "pd.DataFrame":
    pandas = _pandas()
    rows = []
    for message in messages:
        kind, milliseconds = message.timestamp()
        key = message.key()
        rows.append(
            {
                **fields(message),
                "kafka.partition": message.partition(),
                "kafka.offset": message.offset(),
                "kafka.key": None if key is None else key.decode("utf-8", "backslashreplace"),
                "kafka.written": None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds,
            }
        )
    columns = None if rows else ["kafka.partition", "kafka.offset", "kafka.key", "kafka.written"]
    frame = pandas.DataFrame(rows, columns=columns)
    frame["kafka.written"] = pandas.to_datetime(frame["kafka.written"], unit="ms", utc=True)
    return frame


def _joined(pipeline: Pipeline, made: Sequence[Message], told: Mapping[Any, Mapping[str, Any]]) -> "pd.DataFrame":
    pandas, wire = _pandas(), pipeline.wire

    def fields(message: Message) -> dict[str, Any]:
        said = _said(message)
        known = told.get(said.get(wire.id), {})
        return {**said, "label": known.get("label"), "by": known.get("by"), "known_at": known.get("at")}

    frame = _frame(made, fields)
    if not len(frame):
        names = dict.fromkeys([wire.id, wire.time, wire.key, *MODELS, "label", "by", "known_at", *frame.columns])
        frame = frame.reindex(columns=list(names))
    for name in MODELS:
        frame[name] = frame[name].astype("float64")
    frame["known_at"] = pandas.to_datetime(frame["known_at"], unit="s", utc=True, errors="coerce")
    frame.index = pandas.DatetimeIndex(
        pandas.to_datetime(frame[wire.time], unit="s", utc=True, errors="coerce"), name="event_time"
    )
    frame.attrs["kind"] = pipeline.kind
    return frame


def _column(frame: "pd.DataFrame", name: str) -> Floats:
    """Return a column as numbers; what is none, and a column that is not there, is missing."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return cast("Floats", _pandas().to_numeric(frame[name], errors="coerce").to_numpy(np.float64))


def _measure(known: "pd.DataFrame") -> str:
    """Return what fits: by the kind of the pipeline, or else by what labels are."""
    kind = known.attrs.get("kind")
    if "predicted" in known:
        return "accuracy"
    labels = set(np.unique(_column(known, "label")))
    return "log_loss" if kind in ("binary", "anomaly") or (kind is None and labels <= {0.0, 1.0}) else "mae"


def _log_loss(known: "pd.DataFrame") -> dict[str, Floats]:
    labels, found = _column(known, "label"), {}
    for name in MODELS:
        chance = np.clip(_column(known, name), LEAST, 1 - LEAST)
        found[name] = -(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
    return found


def _mae(known: "pd.DataFrame") -> dict[str, Floats]:
    labels = _column(known, "label")
    return {name: np.abs(_column(known, name) - labels) for name in MODELS}


def _accuracy(known: "pd.DataFrame") -> dict[str, Floats]:
    right = known["predicted"] == known["label"]
    return {"predicted": cast("Floats", right.to_numpy(np.float64))}


MEASURES: dict[str, Callable[[Any], dict[str, Floats]]] = {"log_loss": _log_loss, "accuracy": _accuracy, "mae": _mae}


# What is shown.


def _html(story: explaining.Story) -> Iterator[str]:
    """Yield the parts of a page. Whatever an event says is text there."""
    text = html.escape
    yield f"<h4>{text(story.pipeline)} {text(story.version)}: event {text(str(story.id))}</h4>"
    yield f"<p>{text(str(story.event))}, key {text(str(story.key))}</p>"
    value = msgspec.json.decode(story.value) if isinstance(story.value, msgspec.Raw) else story.value
    yield _table("The event", ("field", "value"), (value if isinstance(value, dict) else {"value": value}).items())
    yield _table(
        "Features", ("feature", "value", "from"), [(one.name, one.value, one.origin) for one in story.features]
    )
    if story.rejected is not None:
        yield _table("Rejected", ("reason", "message"), [(story.rejected.reason, story.rejected.message)])
    if story.score is not None:
        scores = [(name, getattr(story, name)) for name in MODELS]
        yield _table("Scores", ("model", "score"), scores)
    reasons = [(one.model, one.code, one.value, f"{one.contribution:+.6g}") for one in story.reasons]
    yield _table("Reasons", ("model", "code", "value", "contribution"), reasons)
    if story.published is not None:
        same = "the same, bit for bit" if story.same_bits else "not the same"
        yield f"<p>Published: {text(str(story.published.at))}; computed again it is {same}</p>"
        rows = [(name, was, now) for name, (was, now) in story.differences.items()]
        yield _table("Differences", ("field", "published", "computed now"), rows)
    known = [(one.value.get("by"), one.value.get("label"), one.at) for one in story.outcomes]
    yield _table("What became known", ("by", "label", "where"), known)
    yield from (f"<p>{text(note)}</p>" for note in story.notes)


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table, or nothing where it has no row.

    >>> _table("Now", ("a",), [("<b>",)])
    '<h5>Now</h5><table><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<h5>{html.escape(title)}</h5><table><tr>{head}</tr>{body}</table>"


def _dates(seconds: Sequence[float]) -> Any:
    """Return times as plots have them: as numpy's, in UTC."""
    return (1_000 * np.array(seconds)).astype("datetime64[ms]")


def _axes(given: "Axes | None") -> "Axes":
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ImportError(_lacking("matplotlib", error)) from error
    return given if given is not None else plt.subplots()[1]


def _pandas() -> Any:
    try:
        import pandas  # noqa: ICN001, PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ImportError(_lacking("pandas", error)) from error
    return pandas


def _lacking(package: str, error: ImportError) -> str:
    return f"headrace.notebook needs {package}, which cannot be imported ({error}): pip install 'headrace[notebook]'"
