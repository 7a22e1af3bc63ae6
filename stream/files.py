"""Files of events and of predictions: JSON lines, CSV and Parquet, read and written a batch at a time."""

import csv
import gzip
import io
import os
import secrets
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, cast

import msgspec

from headrace.models.features import parts
from headrace.models.pipeline import Pipeline
from headrace.schemas.codec import EventCodec, encode, encode_all
from headrace.schemas.config import OPTIONS
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadFile
from headrace.schemas.event import Event, columns_of
from headrace.schemas.prediction import FLAGS, REASONS, Contribution
from headrace.schemas.table import TableCodec

STANDARD = "-"  # stdin or stdout
JSON_LINES, CSV, PARQUET = FORMATS = ("jsonl", "csv", "parquet")
SUFFIXES = {".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".csv": CSV, ".parquet": PARQUET}
GZIP = ".gz"

# A batch that stays in the processor's caches: lines are scored a third faster in these than in larger ones.
ROWS = 2_000
BLOCK_BYTES = 262_144
# A worker with the defaults refuses what is larger, so the batch does too, and no line has to fit into memory.
EVENT_BYTES_MAX = cast("int", OPTIONS["event_bytes_max"].default)
# Rows of a Parquet file are written in groups, and a group waits in memory until it is full.
GROUP_ROWS = 65_536


class Batch(NamedTuple):
    """Some rows of a file, in their order. ``rejections`` name rows by their index in ``numbers``."""

    events: list[Any]
    rejections: list[Rejection]
    numbers: Sequence[int]
    original: Callable[[int], Any]


class Source(Protocol):
    """A file of events that is being read."""

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows from the first to the last."""
        ...

    def share(self) -> float | None:
        """Say how much of the file has been read, from zero to one, where that is known."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Sink(Protocol):
    """A file of predictions that is being written."""

    def write(self, predictions: Sequence[Any]) -> None:
        """Take the next predictions."""
        ...

    def finish(self) -> None:
        """Write what is still held back."""
        ...

    def abandon(self) -> None:
        """Hear that the file will not be finished, or that it is."""
        ...


def format_of(path: str, given: str | None = None) -> str:
    """Return the format that a person asked for, or else the one that the suffix names.

    >>> format_of("events.csv.gz"), format_of("-"), format_of("events.txt", "csv")
    ('csv', 'jsonl', 'csv')
    >>> format_of("events.txt")
    Traceback (most recent call last):
    headrace.schemas.errors.BadFile: events.txt: the suffix names no format; there are .jsonl, .ndjson, .csv,
      .parquet, and .gz after those of text; or say which it is: jsonl, csv, parquet
    """
    plain = path.removesuffix(GZIP)
    found = given or (JSON_LINES if path == STANDARD else SUFFIXES.get(Path(plain).suffix.lower()))
    if found is None:
        raise BadFile(
            f"{path}: the suffix names no format; there are {', '.join(SUFFIXES)}, and {GZIP} after those of text; "
            f"or say which it is: {', '.join(FORMATS)}"
        )
    if found == PARQUET and path == STANDARD:
        raise BadFile("Parquet is read and written in a file, not on stdin or stdout")
    if found == PARQUET and plain != path:
        raise BadFile(f"{path}: Parquet has its own compression; leave out {GZIP}")
    return found


def open_source(path: str, given: str | None, pipeline: Pipeline) -> "Source":
    """Open a file of events; what cannot be read is told now, before any row is."""
    kinds: dict[str, Callable[..., Source]] = {JSON_LINES: JsonLines, CSV: Csv, PARQUET: Parquet}
    kind = kinds[format_of(path, given)]
    with _told(path):
        return kind(path, pipeline.events)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn what goes wrong with a file into an error that a person can act on."""
    try:
        yield
    except BrokenPipeError as error:
        raise BadFile(f"{path}: whoever read it has gone") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except Exception as error:
        if type(error).__module__.startswith("pyarrow"):
            raise BadFile(f"{path}: {error}") from error
        raise


@contextmanager
def _closed_unless_well(source: Source) -> Iterator[None]:
    try:
        yield
    except BaseException:
        source.close()
        raise


def _reading(path: str, batches: Iterator[Any]) -> Iterator[Any]:
    """Go through an iterator; only what it raises itself is the file's fault."""
    while True:
        with _told(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


class _Bytes:
    """An open file of text, unpacked where it is packed, and how far it has been read."""

    def __init__(self, path: str) -> None:
        self._size = 0
        if path == STANDARD:
            raw: BinaryIO = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - read to its end, then we end
        else:
            raw = Path(path).open("rb")  # noqa: SIM115 - as above
            self._size = os.fstat(raw.fileno()).st_size
        self._raw = raw
        unpacked = gzip.GzipFile(fileobj=raw) if path.endswith(GZIP) else None
        self.file: BinaryIO = cast("BinaryIO", io.BufferedReader(unpacked, BLOCK_BYTES)) if unpacked else raw

    def close(self) -> None:
        self.file.close()
        self._raw.close()

    def share(self) -> float | None:
        return self._raw.tell() / self._size if self._size else None


class JsonLines:
    """A JSON object in each line. Lines go the way of a record's value in a worker; empty ones are no rows."""

    def __init__(self, path: str, events: type[Event]) -> None:
        self._path = path
        self._codec = EventCodec(events, bytes_max=EVENT_BYTES_MAX)
        self._bytes = _Bytes(path)
        self.share, self.close = self._bytes.share, self._bytes.close

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows from the first to the last."""
        first = 1
        for lines, cut in _reading(self._path, _lines(self._bytes.file)):
            if first == 1:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")  # a byte order mark, from Windows
            numbers: Sequence[int] = range(first, first + len(lines))
            first += len(lines)
            if b"" in lines:
                numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
                lines = [line for line in lines if line]  # noqa: PLW2901 - without those that are no rows
            if lines:
                events, rejections = self._codec.decode(lines)
                if cut:
                    text = f"the line has {len(lines[0]) + cut} bytes; allowed are {EVENT_BYTES_MAX}"
                    rejections = [one._replace(message=text) if one.at == 0 else one for one in rejections]
                yield Batch(events, rejections, numbers, partial(_line, lines))


def _lines(file: BinaryIO) -> Iterator[tuple[list[bytes], int]]:
    r"""Yield a file's lines, some at a time, and how many bytes were cut off the first of them.

    A line that is too large for an event is kept up to there: a file that has no line breaks at all would
    otherwise be one line that does not fit into memory.

    >>> list(_lines(io.BytesIO(b"a\r\nb")))
    [([b'a'], 0), ([b'b'], 0)]
    """
    kept, cut = b"", 0
    while block := file.read(BLOCK_BYTES):
        *lines, rest = block.split(b"\n")
        if lines:
            lines[0] = kept + lines[0]
            if b"\r" in block or kept.endswith(b"\r"):
                lines = [line.removesuffix(b"\r") for line in lines]
            yield lines, cut
            kept, cut = rest, 0
        else:
            kept += rest
        if (beyond := len(kept) - EVENT_BYTES_MAX - 1) > 0:
            kept, cut = kept[:-beyond], cut + beyond
    if kept:
        yield [kept.removesuffix(b"\r")], cut


def _line(lines: list[bytes], at: int) -> Any:
    return original(lines[at])


def original(value: bytes) -> Any:
    r"""Return a line or a record's value as it goes into a line of dead letters: as the JSON that it is, or as text.

    >>> [bytes(original(value)) for value in (b'{"id": 1.50}', b'{\n  "id": 1.50\n}')]
    [b'{"id": 1.50}', b'{"id":1.50}']
    >>> original(b"caf\xe9")
    'caf\\xe9'
    """
    try:
        if len(value) <= EVENT_BYTES_MAX:
            msgspec.json.decode(value)
            # A record's value may go over several lines, and this is one.
            several = b"\n" in value or b"\r" in value
            return msgspec.Raw(msgspec.json.format(value, indent=-1) if several else value)
    except Exception:  # noqa: BLE001, S110 - whatever is wrong with it, it is kept
        pass
    return value.decode("utf-8", "backslashreplace")


class Csv:
    """Rows under a header that names the fields. An empty cell is null, or a field that is not there."""

    def __init__(self, path: str, events: type[Event]) -> None:
        self._path = path
        self._bytes = _Bytes(path)
        self.share, self.close = self._bytes.share, self._bytes.close
        csv.field_size_limit(EVENT_BYTES_MAX)
        # What is not UTF-8 is smuggled through, so that it costs its own row and no other.
        text = io.TextIOWrapper(cast("Any", self._bytes.file), "utf-8-sig", errors="surrogateescape", newline="")
        self._rows = csv.reader(text)
        with _closed_unless_well(self):
            try:
                self._names = next(self._rows, [])
            except csv.Error as error:
                raise BadFile(f"{path}: the header cannot be read: {error}") from error
            self._codec = _table_codec(path, events, self._names, strict=False)
        self._places = {name: self._names.index(name) for name in self._codec.types}

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows from the first to the last."""
        first = 1
        for rows, unreadable in _reading(self._path, self._taken()):
            good, kept, rejections = rows, list(range(len(rows))), self._misshapen(rows, unreadable)
            if rejections:
                bad = {one.at for one in rejections}
                kept = [at for at in range(len(rows)) if at not in bad]
                good = [rows[at] for at in kept]
            events: list[Any] = []
            if good:
                cells = list(zip(*good, strict=True))
                columns = {
                    name: [cell or None for cell in cells[place]] if "" in cells[place] else cells[place]
                    for name, place in self._places.items()
                }
                events, refused = self._codec.decode(columns)
                rejections = sorted([*rejections, *(one._replace(at=kept[one.at]) for one in refused)])
            numbers = range(first, first + len(rows))
            first += len(rows)
            yield Batch(events, rejections, numbers, partial(self._original, rows))

    def _taken(self) -> Iterator[tuple[list[list[str]], dict[int, str]]]:
        """Yield the rows, some at a time, and by index what is the matter with those that cannot be read."""
        rows: list[list[str]] = []
        unreadable: dict[int, str] = {}
        while True:
            try:
                for row in self._rows:
                    if row:
                        rows.append(row)
                    if len(rows) == ROWS:
                        yield rows, unreadable
                        rows, unreadable = [], {}
                break
            except csv.Error as error:  # the reader goes on with the next line
                unreadable[len(rows)] = f"the row cannot be read: {error}"
                rows.append([])
        if rows:
            yield rows, unreadable

    def _misshapen(self, rows: list[list[str]], unreadable: dict[int, str]) -> list[Rejection]:
        width = len(self._names)
        rejections = []
        if set(map(len, rows)) != {width}:
            for at, row in enumerate(rows):
                if len(row) != width:
                    text = unreadable.get(at, f"the row has {len(row)} cells, and the header names {width}")
                    rejections.append(Rejection(at, Reason.WRONG_TYPE, text))
        if not _is_utf8(rows):
            known = {one.at for one in rejections}
            found = [at for at, row in enumerate(rows) if at not in known and not _is_utf8([row])]
            rejections += [Rejection(at, Reason.NOT_JSON, "the row is not UTF-8") for at in found]
        return rejections

    def _original(self, rows: list[list[str]], at: int) -> Any:
        cells = [cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for cell in rows[at]]
        return dict(zip(self._names, cells, strict=True)) if len(cells) == len(self._names) else cells


def _is_utf8(rows: list[list[str]]) -> bool:
    text = "".join(map("".join, rows))
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


class Parquet:
    """Rows of typed columns. A null is null, or a field that is not there."""

    def __init__(self, path: str, events: type[Event]) -> None:
        _, parquet = _pyarrow()
        self._path = path
        # A file may be a single group of rows, so a column is read in pieces and not as a whole.
        self._file = parquet.ParquetFile(path, buffer_size=BLOCK_BYTES, pre_buffer=False)
        with _closed_unless_well(self):
            self._codec = _table_codec(path, events, self._file.schema_arrow.names, strict=True)
        self._numbers = {name for name, hint in self._codec.types.items() if hint in _NUMBERS}
        self._read = 0

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows from the first to the last."""
        names = list(self._codec.types)
        for batch in _reading(self._path, self._file.iter_batches(ROWS, columns=names, use_threads=False)):
            columns = {name: self._values(name, batch.column(name)) for name in names}
            events, rejections = self._codec.decode(columns)
            numbers = range(self._read + 1, self._read + 1 + batch.num_rows)
            self._read += batch.num_rows
            yield Batch(events, rejections, numbers, partial(_cells, columns))

    def share(self) -> float | None:
        """Say how much of the file has been read, from zero to one."""
        rows: int = self._file.metadata.num_rows
        return self._read / max(1, rows)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _values(self, name: str, column: Any) -> list[Any]:
        """Return a column's values as Python's; numpy makes them three times as fast, where it knows them."""
        arrow, _ = _pyarrow()
        types = arrow.types
        if types.is_timestamp(column.type) and name in self._numbers:
            # A frame's times are often of this type, and the wire's are seconds.
            unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
            ticks = column.cast(arrow.int64()).to_pylist()
            return [None if tick is None else tick / unit for tick in ticks]
        if types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type):
            plain = column.null_count == 0
        else:
            plain = types.is_string(column.type) or types.is_large_string(column.type)
        try:
            values = column.to_numpy(zero_copy_only=False).tolist() if plain else column.to_pylist()
        except (
            UnicodeDecodeError,
            arrow.ArrowException,
        ):  # the bytes that are not UTF-8 stay bytes, and are refused as such
            values = [_text(value) for value in column.cast(arrow.large_binary()).to_pylist()]
        return cast("list[Any]", values)


_NUMBERS = (float, int, float | None, int | None, float | int)


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _cells(columns: dict[str, list[Any]], at: int) -> dict[str, Any]:
    """Return a row as it goes into a dead letter; what JSON has no word for is spelled as text."""
    cells = {name: column[at] for name, column in columns.items()}
    return cast("dict[str, Any]", msgspec.to_builtins(cells, enc_hook=str))


def _table_codec(path: str, events: type[Event], names: Sequence[str], *, strict: bool) -> TableCodec:
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise BadFile(f"{path}: two columns are called {doubled[0]!r}")
    codec = TableCodec(events, names, strict=strict)
    if codec.missing:
        there = ", ".join(names) or "none"
        raise BadFile(
            f"{path}: no column {', '.join(codec.missing)}, which {events.__name__} needs; the columns are: {there}"
        )
    return codec


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as arrow  # type: ignore[import-untyped] # noqa: ICN001, PLC0415 - an extra, and slow to import
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError as error:
        raise BadFile("Parquet needs pyarrow, which is not installed: pip install 'headrace[parquet]'") from error
    return arrow, parquet


def letters_beside(path: str, out: str, *, force: bool) -> "Target":
    """Return where rejections go; it is not where the rest goes."""
    if path == STANDARD or Path(path).resolve() == Path(out).resolve():
        raise BadFile(f"--dead-letters {path}: needs a file of its own")
    return Target(path, force=force)


class Target:
    """A file that takes its name when it is whole, and never before. Stdout, pipes and devices are written as they are.

    Until then it is beside that name, under one that ends with ``.part``. Leaving the block with an error
    takes it away.
    """

    def __init__(self, path: str, *, force: bool) -> None:
        self.path = path
        self._place = Path(path)
        self._part: Path | None = None
        if path == STANDARD:
            return
        if self._place.is_dir():
            raise BadFile(f"{path}: is a folder; name a file in it")
        if not self._place.parent.is_dir():
            raise BadFile(f"{path}: there is no folder {self._place.parent}")
        if self._place.is_file() and not force:
            raise BadFile(f"{path}: exists; --force replaces it when the new one is whole")
        if self._place.is_file() or not self._place.exists():
            self._place = self._place.resolve()  # a link stays one, and what it points at is replaced
            self._part = self._place.with_name(f".{self._place.name}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> Self:
        with _told(self.path):
            if self.path == STANDARD:
                self._raw: BinaryIO = open(sys.stdout.fileno(), "wb", closefd=False)
            elif self._part:
                self._raw = self._part.open("xb")
            else:
                self._raw = self._place.open("wb")
        self.file: BinaryIO = self._raw
        if self.path.endswith(GZIP):
            # Without name and time, so that the same events give the same bytes.
            self.file = cast("BinaryIO", gzip.GzipFile("", "wb", 6, self._raw, mtime=0))
        return self

    def keep(self) -> None:
        """Make the file durable, and give it its name."""
        with _told(self.path):
            if self.file is not self._raw:
                self.file.close()
            self._raw.flush()
            if self._part:
                os.fsync(self._raw.fileno())
            self._raw.close()
            if self._part:
                self._part.replace(self._place)

    def __exit__(self, *_: object) -> None:
        # After keep() there is nothing left to do.
        for file in (self.file, self._raw):
            try:
                file.close()
            except (OSError, ValueError):  # it could not be written, and that was told
                continue
        if self._part:
            self._part.unlink(missing_ok=True)

    @property
    def is_held_back(self) -> bool:
        """Say whether nobody sees the file before it is whole."""
        return self._part is not None

    def writing(self) -> Any:
        """Return a context in which what goes wrong is this file's fault."""
        return _told(self.path)


def open_sink(target: Target, given: str | None, pipeline: Pipeline, *, rows: Any = None) -> Sink:
    """Begin a file of predictions, or of other rows of which ``rows`` is the type."""
    kinds: dict[str, Callable[..., Sink]] = {JSON_LINES: _JsonSink, CSV: _CsvSink, PARQUET: _ParquetSink}
    kind = kinds[format_of(target.path, given)]
    with target.writing():
        return kind(target.file, rows or pipeline.prediction)


class _JsonSink:
    def __init__(self, file: BinaryIO, _prediction: Any) -> None:
        self._file = file

    def write(self, predictions: Sequence[Any]) -> None:
        self._file.write(b"\n".join([*encode_all(predictions), b""]))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def _digits(column: list[Any]) -> list[str]:
    """Return numbers as in JSON, which is also ten times as fast as Python's own digits."""
    return encode(column)[1:-1].decode().replace("null", "").split(",")


_CELLS: dict[Any, Callable[[list[Any]], list[str]]] = {
    float: _digits,
    FLAGS: lambda column: list(map(" ".join, column)),
    REASONS: lambda column: [encode(reasons).decode() for reasons in column],
}


class _CsvSink:
    def __init__(self, file: BinaryIO, prediction: Any) -> None:
        self._file = file
        self._columns = [
            (attrgetter(name), _CELLS.get(parts(hint)[0])) for name, hint in columns_of(prediction).items()
        ]
        self._put([prediction.__struct_fields__])

    def write(self, predictions: Sequence[Any]) -> None:
        columns = [list(map(get, predictions)) for get, _ in self._columns]
        texts = [cells(column) if cells else column for column, (_, cells) in zip(columns, self._columns, strict=True)]
        if predictions:
            self._put(zip(*texts, strict=True))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def _put(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())


def _plain(reasons: tuple[Contribution, ...]) -> list[dict[str, Any]]:
    return list(map(msgspec.structs.asdict, reasons))


class _ParquetSink:
    def __init__(self, file: BinaryIO, prediction: Any) -> None:
        self._arrow, parquet = _pyarrow()
        text = self._arrow.string()
        number = self._arrow.float64()
        names = Contribution.__struct_fields__
        reasons = self._arrow.list_(self._arrow.struct(list(zip(names, (text, text, number, number), strict=True))))
        kinds = {str: text, int: self._arrow.int64(), float: number, FLAGS: self._arrow.list_(text), REASONS: reasons}
        fields = [(name, kinds[parts(hint)[0]]) for name, hint in columns_of(prediction).items()]
        self._schema = self._arrow.schema(fields)
        self._columns = [(attrgetter(name), kind, kind == reasons) for name, kind in fields]
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, predictions: Sequence[Any]) -> None:
        if not predictions:
            return
        try:
            columns = [
                self._arrow.array(list(map(_plain, map(get, predictions)) if nested else map(get, predictions)), kind)
                for get, kind, nested in self._columns
            ]
        except OverflowError as error:
            raise BadFile(f"an id or a key does not fit into Parquet's 64 bits; JSON lines take it: {error}") from error
        self._waiting.append(self._arrow.record_batch(columns, schema=self._schema))
        self._rows += len(predictions)
        if self._rows >= GROUP_ROWS:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False  # or it would write a footer, when it is thrown away, to a file that is closed

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.Table.from_batches(self._waiting), row_group_size=self._rows)
        self._waiting, self._rows = [], 0
