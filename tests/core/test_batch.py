"""Files in, files out: the worker's scores for every format, and no file that is half there."""

import contextlib
import csv
import datetime as dt
import decimal
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from core.records import GOOD, Alone, Record, Transaction, config_of, fraud, step, transaction, without
from pyarrow import parquet

from headrace import Event, Linear, Pipeline, field
from headrace.schemas.codec import encode_all
from headrace.schemas.dead_letter import Reason
from headrace.schemas.errors import BadFile, RowsRejected
from headrace.stream import batch, cli, files

Rows = list[dict[str, Any]]
COUNT = 2 * files.ROWS + 345  # several batches, the last of them short
IN = ["in.jsonl", "in.ndjson", "in.jsonl.gz", "in.csv", "in.csv.gz", "in.parquet"]
OUT = ["out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.gz", "out.parquet"]


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def _rows(count: int = COUNT) -> Rows:
    """Payments that differ, with text that a careless reader would trip over."""
    names = ['Zoë, "the shop"', "line\nbreak", "plain", "日本"]
    return [
        {
            **GOOD,
            "id": f"p{at}",
            "at": 1_700_000_000.0 + at / 3,
            "card": f"card-{at % 7}",
            "merchant": names[at % 4],
            "amount": at * 0.1 + 1e-9,
            "lat": 40 + at / 77,
            "country": "FR" if at % 3 else "BE",
        }
        for at in range(count)
    ]


def _write(path: str, rows: Rows) -> str:
    kind, packed = files.format_of(path), path.endswith(".gz")
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    with (gzip.open if packed else open)(path, "wt", encoding="utf-8", newline="") as file:  # type: ignore[operator]
        if kind == "jsonl":
            file.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def _read(path: str) -> Rows:
    """Read predictions with other code than the product's."""
    kind, packed = files.format_of(path), path.endswith(".gz")
    if kind == "parquet":
        return parquet.read_table(path).to_pylist()
    with (gzip.open if packed else open)(path, "rt", encoding="utf-8", newline="") as file:  # type: ignore[operator]
        if kind == "jsonl":
            return [json.loads(line) for line in file]
        numbers = ("at", "score", "static", "online")
        return [
            {name: (float(cell) if cell else None) if name in numbers else cell for name, cell in row.items()}
            | {"flags": row["flags"].split()}
            for row in csv.DictReader(file)
        ]


def _ends(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["score", PIPELINE, *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def _letters(path: str) -> Rows:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def _here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("name", IN)
def test_every_format_has_the_scores_of_one_step_bit_for_bit(name: str) -> None:
    rows = _rows()
    want = step(fraud, [Transaction(**row) for row in rows]).predictions
    summary = batch.score(fraud, _write(name, rows), "out.jsonl")
    assert Path("out.jsonl").read_bytes().splitlines() == encode_all(want)
    assert (summary.scored, summary.rejected) == (COUNT, 0)


def test_lines_have_the_bytes_that_a_worker_publishes() -> None:
    records = [Record(msgspec.json.encode(row)) for row in _rows()]
    scorer = Alone(fraud, config_of(), dict.fromkeys(("predictions", "alerts", "dead-letters"), 1_000_000))
    Path("in.jsonl").write_bytes(b"\n".join(record.value() or b"" for record in records))
    batch.score(fraud, "in.jsonl", "out.jsonl")
    assert Path("out.jsonl").read_bytes().splitlines() == scorer.step(records).values  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OUT)
def test_every_format_gives_back_what_was_written(name: str) -> None:
    rows = _rows()
    predictions = step(fraud, [Transaction(**row) for row in rows]).predictions
    batch.score(fraud, _write("in.parquet", rows), name)
    assert _read(name) == [json.loads(line) for line in encode_all(predictions)]


def test_predictions_in_parquet_are_typed_and_in_groups_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP_ROWS", files.ROWS)
    batch.score(fraud, _write("in.csv", _rows()), "out.parquet")
    written = parquet.ParquetFile("out.parquet")
    types = {field.name: str(field.type) for field in written.schema_arrow}
    floats = dict.fromkeys(("at", "score", "static", "online"), "double")
    texts = dict.fromkeys(("id", "card", "model", "version"), "string")
    assert types == {**texts, **floats, "flags": "list<element: string>"}
    assert written.num_row_groups == 3


def test_the_same_events_give_the_same_packed_bytes() -> None:
    _write("in.csv", _rows(10))
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        batch.score(fraud, "in.csv", name)
    assert Path("a.jsonl.gz").read_bytes() == Path("b.jsonl.gz").read_bytes()


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_a_file_without_rows_gives_a_file_without_rows(name: str) -> None:
    Path("in.jsonl").touch()
    assert batch.score(fraud, "in.jsonl", name).scored == 0
    assert _read(name) == []


def test_a_rejected_line_is_a_dead_letter_that_can_be_sent_again() -> None:
    lines = [
        transaction(),
        without("amount"),
        b'{"id": ',
        b"",
        transaction(amount="x"),
        b"\xff",
        transaction(amount=-9),
    ]
    Path("in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    summary = batch.score(fraud, "in.jsonl", "out.jsonl", dead_letters="letters.jsonl")
    assert (summary.scored, summary.rejected) == (1, 5)
    letters = _letters("letters.jsonl")
    assert [(one["row"], one["reason"]) for one in letters] == [
        (2, "missing_field"),
        (3, "not_json"),
        (5, "wrong_type"),
        (6, "not_json"),
        (7, "not_finite"),
    ]
    assert letters[0]["message"] == "Object missing required field `amount` - at `$.amount`"
    assert letters[0]["original"] == json.loads(without("amount"))
    assert letters[1]["original"] == '{"id": '
    assert letters[2]["message"] == "Expected `float`, got `str` - at `$.amount`"
    assert letters[3]["original"] == "\\xff"


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_rejected_row_of_a_table_names_its_path_and_costs_no_other(name: str) -> None:
    rows = _rows()
    rows[3]["amount"] = rows[7]["merchant"] = rows[COUNT - 1]["at"] = None
    rows[2_200]["amount"] = -7.0  # its logarithm is no number
    rows[5]["amount"] = float("nan")
    want = step(fraud, [Transaction(**row) for at, row in enumerate(rows) if at not in (3, 7, COUNT - 1)]).predictions
    batch.score(fraud, _write(name, rows), "out.jsonl", dead_letters="letters.jsonl")
    assert Path("out.jsonl").read_bytes().splitlines() == encode_all(want)
    letters = _letters("letters.jsonl")
    assert [(one["row"], one["reason"], one["message"][:60]) for one in letters] == [
        (4, "missing_field", "Object missing required field `amount` - at `$.amount`"),
        (6, "not_finite", "score is nan; feature 'amount_log' (log1p('amount')) is nan"),
        (8, "missing_field", "Object missing required field `merchant` - at `$.merchant`"),
        (2_201, "not_finite", "score is nan; feature 'amount_log' (log1p('amount')) is nan"),
        (COUNT, "missing_field", "Object missing required field `at` - at `$.at`"),
    ]
    assert letters[0]["original"]["id"] == "p3"
    assert set(letters[0]["original"]) == set(GOOD)


def test_without_a_file_for_them_rejected_rows_are_counted_and_a_few_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in.jsonl").write_bytes(b"\n".join([transaction(), *[without("lat")] * 5, b"[]"]))
    assert _ends("in.jsonl", "-o", "out.jsonl") == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("1 row scored, 6 rejected, in ")
    assert told[1:] == [
        "  missing_field: 5",
        *[f"    row {row}: Object missing required field `lat` - at `$.lat`" for row in (2, 3, 4)],
        "  wrong_type: 1",
        "    row 7: Expected `object`, got `array`",
    ]


def test_strict_tells_of_every_rejected_row_and_writes_no_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.jsonl").write_bytes(b"\n".join([without("id"), transaction(), without("lat")]))
    code = _ends("in.jsonl", "-o", "out.jsonl", "--dead-letters", "letters.jsonl", "--strict")
    assert code == RowsRejected.exit_code
    told = capsys.readouterr().err
    assert told.startswith("ROWS_REJECTED: in.jsonl: 1 row scored, 2 rejected, in ")
    assert told.endswith("  they are in letters.jsonl\n  --strict allows none: out.jsonl is not written\n")
    assert _here() == ["in.jsonl", "letters.jsonl"]
    assert [one["row"] for one in _letters("letters.jsonl")] == [1, 3]


def test_strict_tells_by_the_exit_code_alone_where_nothing_can_be_held_back() -> None:
    with _score("-", "--strict") as process:
        out, err = process.communicate(transaction() + b"\n{", 60)
    assert process.returncode == RowsRejected.exit_code
    assert out.count(b"\n") == 1
    assert err.endswith(b"\n  --strict allows none\n")


def test_strict_is_content_where_every_row_is_well() -> None:
    assert _ends(_write("in.csv", _rows(3)), "-o", "out.jsonl", "--strict") == 0


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_missing_column_is_told_at_once_with_those_there_are(name: str) -> None:
    _write(name, [{"id": "a", "at": 1.0, "colour": "red"}])
    with pytest.raises(BadFile) as told:
        batch.score(fraud, name, "out.jsonl")
    missing = "no column card, merchant, amount, lat, lon, country, which Transaction needs"
    assert str(told.value) == f"{name}: {missing}; the columns are: id, at, colour"
    assert _here() == [name]


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_columns_that_the_class_does_not_name_are_ignored_in_any_order(name: str) -> None:
    rows = [{"colour": "red", **dict(reversed(row.items())), "size": 3} for row in _rows(5)]
    assert batch.score(fraud, _write(name, rows), "out.jsonl").scored == 5


def test_a_column_that_is_there_twice_is_told() -> None:
    Path("in.csv").write_text("id,at,id\n")
    with pytest.raises(BadFile, match=r"in[.]csv: two columns are called 'id'"):
        batch.score(fraud, "in.csv", "out.jsonl")


@pytest.mark.parametrize("name", ["events.txt", "events", "events.json", "events.gz"])
def test_a_suffix_that_names_no_format_is_told_with_those_that_do(name: str) -> None:
    with pytest.raises(BadFile, match=r"the suffix names no format; there are [.]jsonl, [.]ndjson, [.]csv, [.]parquet"):
        batch.score(fraud, name, "out.jsonl")
    with pytest.raises(BadFile, match="the suffix names no format"):
        batch.score(fraud, "in.jsonl", name)


def test_the_format_may_be_said_where_the_suffix_does_not() -> None:
    Path(_write("in.csv", _rows(5))).rename("in.dat")
    assert _ends("in.dat", "--format", "csv", "-o", "out.dat", "--out-format", "parquet") == 0
    assert parquet.read_table("out.dat").num_rows == 5


@pytest.mark.parametrize("arguments", [["in.parquet.gz"], ["-", "--format", "parquet"]])
def test_parquet_comes_from_a_plain_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends(*arguments, "-o", "out.jsonl") == BadFile.exit_code
    assert "Parquet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no.jsonl", "no.csv", "no.parquet"])
def test_a_file_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(BadFile, match=rf"{name}: .*No such file"):
        batch.score(fraud, name, "out.jsonl")
    assert _here() == []


@pytest.mark.parametrize("extra", [["-o", "here"], ["-o", "out.jsonl", "--dead-letters", "here"]])
def test_a_file_that_is_there_is_replaced_only_with_force(extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _write("in.jsonl", _rows(3))
    Path("here").write_text("mine")
    arguments = ["in.jsonl", "--out-format", "jsonl", *extra]
    assert _ends(*arguments) == BadFile.exit_code
    assert capsys.readouterr().err == "BAD_FILE: here: exists; --force replaces it when the new one is whole\n"
    assert Path("here").read_text() == "mine"
    assert _ends(*arguments, "--force") == 0
    assert Path("here").read_text() != "mine"


def test_what_a_link_points_at_is_replaced_and_the_link_stays() -> None:
    _write("in.jsonl", _rows(3))
    Path("there.jsonl").write_text("old")
    Path("link.jsonl").symlink_to("there.jsonl")
    batch.score(fraud, "in.jsonl", "link.jsonl", force=True)
    assert Path("link.jsonl").is_symlink()
    assert len(_read("there.jsonl")) == 3


def test_a_file_may_be_scored_onto_itself() -> None:
    batch.score(fraud, _write("in.jsonl", _rows(3)), "in.jsonl", force=True)
    assert len(_read("in.jsonl")) == 3


@pytest.mark.parametrize(("out", "why"), [(".", "is a folder"), ("no/out.jsonl", "there is no folder no")])
def test_a_place_that_cannot_be_written_is_told_before_a_row_is_read(out: str, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        batch.score(fraud, "in.jsonl", out, target_format="jsonl")


def test_dead_letters_need_a_file_of_their_own() -> None:
    for place in ("out.jsonl", "../" + Path.cwd().name + "/out.jsonl", "-"):
        with pytest.raises(BadFile, match="needs a file of its own"):
            batch.score(fraud, _write("in.jsonl", _rows(3)), "out.jsonl", dead_letters=place)


def test_a_disk_that_is_full_is_told() -> None:
    _write("in.jsonl", _rows())
    with pytest.raises(BadFile, match="/dev/full: No space left on device"):
        batch.score(fraud, "in.jsonl", "/dev/full", target_format="jsonl")


def test_a_device_is_written_as_it_is() -> None:
    _write("in.jsonl", _rows(3))
    batch.score(fraud, "in.jsonl", "/dev/null", target_format="csv")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", OUT)
def test_a_crash_in_the_middle_leaves_no_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow: two batches are scored and written, the third raises; what was there before stays."""
    _write("in.jsonl", _rows())
    Path("letters.jsonl").write_text("old")
    left = [1, 1]

    def step(step: batch.Step, one: files.Batch) -> Any:
        left.pop()
        assert any(".part" in name for name in _here())
        return scored(step, one)

    scored = batch._scored
    monkeypatch.setattr(batch, "_scored", step)
    with pytest.raises(IndexError):
        batch.score(fraud, "in.jsonl", name, dead_letters="letters.jsonl", force=True)
    assert _here() == ["in.jsonl", "letters.jsonl"]
    assert Path("letters.jsonl").read_text() == "old"


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv.gz", "in.parquet"])
def test_a_file_that_breaks_off_is_told_and_leaves_no_file(name: str) -> None:
    whole = Path(_write(name, _rows(20_000))).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=f"^{name}: "):
        batch.score(fraud, name, "out.jsonl")
    assert _here() == [name]


def test_a_kill_leaves_nothing_under_the_name_of_the_output() -> None:
    """Flow: rows come through a pipe; some are scored and written, then the process is killed."""
    with _score("-", "-o", "out.jsonl") as process:
        assert process.stdin
        process.stdin.write(b"".join(transaction() + b"\n" for _ in range(20_000)))
        process.stdin.flush()
        _until(lambda: any(path.stat().st_size for path in Path().glob(".*.part")))
        process.send_signal(signal.SIGKILL)
    assert not Path("out.jsonl").exists()


def test_ctrl_c_leaves_no_file_at_all() -> None:
    with _score("-", "-o", "out.jsonl") as process:
        assert process.stdin
        process.stdin.write(transaction() + b"\n")
        process.stdin.flush()
        _until(lambda: _here() != [])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert _here() == []


def _score(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "headrace.stream.cli", "score", PIPELINE, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def test_a_pipe_gets_lines_and_nothing_else() -> None:
    rows = _rows(3)
    with _score("-") as process:
        out, err = process.communicate(b"".join(msgspec.json.encode(row) + b"\n" for row in rows), 60)
    assert process.returncode == 0
    assert out.splitlines() == encode_all(step(fraud, [Transaction(**row) for row in rows]).predictions)
    assert err.startswith(b"3 rows scored, 0 rejected, in ")
    assert err.count(b"\n") == 1, "progress is for terminals"


def test_a_reader_that_has_gone_is_told_in_a_line() -> None:
    _write("in.jsonl", _rows(20_000))
    with _score("in.jsonl") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"BAD_FILE: -: whoever read it has gone\n"
    assert process.returncode == BadFile.exit_code


def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(batch, "PROGRESS_SECONDS", 0.0)
    for name in ("in.csv", "in.csv.gz", "in.parquet"):
        terminal = Terminal()
        batch.score(fraud, _write(name, _rows()), "out.jsonl", progress=terminal, force=True)
        shown = [line.strip() for line in terminal.getvalue().split("\r\x1b[K")]
        assert shown[-1] == "", "it is wiped away at the end"
        assert any("%  2,000 rows  " in line and line.endswith(" rows/s") for line in shown)


def test_scoring_a_file_needs_no_kafka() -> None:
    _write("in.jsonl", _rows(3))
    code = """
import sys
from headrace.stream import cli
try:
    cli.main(["score", "STATELESS", "in.jsonl", "-o", "out.jsonl"])
except SystemExit as ended:
    print(ended.code, {"confluent_kafka", "faust", "pyarrow"} & set(sys.modules))
"""
    code = code.replace("STATELESS", PIPELINE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"


def test_parquet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _write("in.parquet", _rows(3))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadFile, match=r"pip install 'headrace\[parquet\]'"):
        batch.score(fraud, "in.parquet", "out.jsonl")


PIPELINE = str(Path(__file__).resolve().parents[2] / "benchmarks/stateless")
PEAK = """
import pathlib, sys
from headrace.stream import batch, files
from headrace.stream.load import load_pipeline
files.GROUP_ROWS = 4_000  # so that the small file fills groups too
batch.score(load_pipeline("STATELESS"), *sys.argv[1:], dead_letters="letters.jsonl", force=True)
# Not getrusage: that begins with what the parent had.
(peak,) = [line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
""".replace("STATELESS", PIPELINE)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(kind: str) -> None:
    peaks = []
    for count in (12_000, 240_000):
        name = f"{count}.{kind}"
        if kind == "parquet":  # one group of rows, as large as the file
            columns = {name: [value] * count for name, value in GOOD.items()}
            columns["id"] = [f"p{at}" for at in range(count)]
            columns["amount"] = [float(at) if at % 100 else None for at in range(count)]
            parquet.write_table(pa.table(columns), name, row_group_size=count)
        else:
            rows = [{**row, "amount": -5} if at % 100 == 0 else row for at, row in enumerate(_rows(12_000))]
            _write(f"once.{kind}", rows)
            text = Path(f"once.{kind}").read_bytes()
            text = gzip.decompress(text) if kind.endswith("gz") else text
            header = text[: text.index(b"\n") + 1] if kind == "csv" else b""
            text = header + text.removeprefix(header) * (count // 12_000)
            Path(name).write_bytes(gzip.compress(text, 1) if kind.endswith("gz") else text)
        out = f"out.{kind}"
        # Arrow's own allocator keeps what was given back; what is measured is what we hold.
        done = subprocess.run(
            [sys.executable, "-c", PEAK, name, out],
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
        assert len(_letters("letters.jsonl")) == count // 100
    small, large = peaks
    assert large - small < 16, f"{small} MiB for 12,000 rows, and {large} MiB for twenty times as many"


def test_a_line_that_never_ends_is_told_with_its_length_and_not_kept() -> None:
    long = b'{"id": "' + b"x" * 5_000_000 + b'"}'
    Path("in.jsonl").write_bytes(b"\n".join([transaction(), long, transaction(id="p2"), long]))
    summary = batch.score(fraud, "in.jsonl", "out.jsonl", dead_letters="letters.jsonl")
    assert summary.scored == 2
    for row, letter in zip((2, 4), _letters("letters.jsonl"), strict=True):
        assert (letter["row"], letter["reason"]) == (row, "event_too_large")
        assert letter["message"] == f"the line has {len(long)} bytes; allowed are {files.EVENT_BYTES_MAX}"
        assert len(letter["original"]) < files.EVENT_BYTES_MAX + 2 * files.BLOCK_BYTES


@pytest.mark.parametrize("size", [1, 7, 100, 1_000])
def test_where_a_block_ends_does_not_show(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", size)
    lines = [transaction(id=f"p{at}") for at in range(9)]
    Path("in.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*lines[:3], b"", *lines[3:], b"", b"{"]))
    batch.score(fraud, "in.jsonl", "out.jsonl", dead_letters="letters.jsonl")
    assert [row["id"] for row in _read("out.jsonl")] == [f"p{at}" for at in range(9)]
    assert [(one["row"], one["original"]) for one in _letters("letters.jsonl")] == [(12, "{")]


class Reading(Event, topic="readings", key="sensor"):
    """What a table can say in more than one way."""

    id: int
    at: float
    sensor: str
    value: float
    limit: float | None
    note: str | None = None
    level: int = 7


readings = Pipeline(name="readings", events=Reading, features={"value": field("value")}, static=Linear({"value": 1.0}))


def _decoded(path: str) -> tuple[list[Any], list[tuple[int, Reason, str]]]:
    events: list[Any] = []
    refused: list[tuple[int, Reason, str]] = []
    with contextlib.closing(files.open_source(path, None, readings)) as source:
        for one in source.batches():
            events += one.events
            refused += [(one.numbers[each.at], each.reason, each.message) for each in one.rejections]
    return events, refused


def test_a_cell_of_csv_is_read_as_its_field_is_declared() -> None:
    Path("in.csv").write_bytes(
        b"\xef\xbb\xbfid,at,sensor,value,limit,note,level\r\n"
        b'1,2,3,4,5,"say ""no""",6\r\n'
        b"\r\n"
        b"2,2.5,a,1e3,,,\r\n"
        b"3,2,a,1_0,,,\r\n"
        b"x,2,a,1,,,\r\n"
        b",2,a,1,,,\r\n"
        b"4,2,a,1,,,6.5\r\n"
        b"5,2,a,1,,\r\n"
        b"6,2,a,1,,,7,8\r\n"
        b"7,nan,a,1,,,\r\n"
        b"8,2,\xff,1,,,\r\n"
        b"9,2,\xc3\xa9,1,,null,\r\n"
    )
    events, refused = _decoded("in.csv")
    assert events == [
        Reading(1, 2.0, "3", 4.0, 5.0, 'say "no"', 6),
        Reading(2, 2.5, "a", 1000.0, None, None, 7),
        Reading(9, 2.0, "é", 1.0, None, "null", 7),
    ]
    assert refused == [
        (3, Reason.WRONG_TYPE, "Expected `float`, got `str` - at `$.value`"),
        (4, Reason.WRONG_TYPE, "Expected `int`, got `str` - at `$.id`"),
        (5, Reason.MISSING_FIELD, "Object missing required field `id` - at `$.id`"),
        (6, Reason.WRONG_TYPE, "Expected `int`, got `str` - at `$.level`"),
        (7, Reason.WRONG_TYPE, "the row has 6 cells, and the header names 7"),
        (8, Reason.WRONG_TYPE, "the row has 8 cells, and the header names 7"),
        (9, Reason.WRONG_TYPE, "Expected a finite number, got nan - at `$.at`"),
        (10, Reason.NOT_JSON, "the row is not UTF-8"),
    ]


def test_a_cell_of_csv_that_is_too_large_costs_its_own_row() -> None:
    large = "x" * (files.EVENT_BYTES_MAX + 1)
    Path("in.csv").write_text(f"id,at,sensor,value,limit\n1,2,a,3,\n2,2,{large},3,\n3,2,a,3,\n")
    events, refused = _decoded("in.csv")
    assert [event.id for event in events] == [1, 3]
    text = "the row cannot be read: field larger than field limit (1048576)"
    assert refused == [(2, Reason.WRONG_TYPE, text)]


def _parquet(**columns: Any) -> tuple[list[Any], list[tuple[int, Reason, str]]]:
    plain: dict[str, Any] = {"id": [1], "at": [1.0], "sensor": ["a"], "value": [0.5], "limit": [None]}
    parquet.write_table(pa.table({**plain, **columns}), "in.parquet")
    return _decoded("in.parquet")


def test_columns_of_parquet_may_have_any_type_that_says_the_same() -> None:
    noon = dt.datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    for kind in ("ms", "us", "ns"):
        for zone in (None, "UTC"):
            (event,), _ = _parquet(at=pa.array([noon], pa.timestamp(kind, zone)))
            assert event.at == noon.timestamp()
    assert _parquet(value=[decimal.Decimal("0.1")])[0][0].value == 0.1
    assert _parquet(value=pa.array([0.1], pa.float32()))[0][0].value == pa.scalar(0.1, pa.float32()).as_py()
    assert _parquet(value=pa.array([3], pa.int8()))[0][0].value == 3.0
    assert _parquet(id=pa.array([2**64 - 1], pa.uint64()))[0][0].id == 2**64 - 1
    assert _parquet(sensor=pa.array(["é"]).dictionary_encode())[0][0].sensor == "é"
    assert _parquet(sensor=pa.array(["é"], pa.large_string()))[0][0].sensor == "é"
    assert _parquet(limit=pa.array([None, 2.0])[1:], note=["n"], level=pa.array([None], pa.int64()))[0] == [
        Reading(1, 1.0, "a", 0.5, 2.0, "n", 7)
    ]


def test_a_column_of_parquet_that_has_another_type_refuses_its_rows() -> None:
    assert _parquet(value=["0.5"])[1] == [(1, Reason.WRONG_TYPE, "Expected `float`, got `str` - at `$.value`")]
    assert _parquet(id=[1.0])[1] == [(1, Reason.WRONG_TYPE, "Expected `int`, got `float` - at `$.id`")]
    assert _parquet(value=pa.array([None], pa.float64()))[1] == [
        (1, Reason.MISSING_FIELD, "Object missing required field `value` - at `$.value`")
    ]
    broken = pa.array([b"\xff"]).view(pa.string())
    assert _parquet(sensor=broken)[1] == [(1, Reason.WRONG_TYPE, "Expected `str`, got `bytes` - at `$.sensor`")]


def test_a_dead_letter_spells_what_json_has_no_word_for() -> None:
    plain = {"at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], "sensor": [b"\xff"], "limit": [None]}
    parquet.write_table(pa.table({"id": ["x"], "value": [decimal.Decimal("0.1")], **plain}), "in.parquet")
    batch.score(readings, "in.parquet", "out.jsonl", dead_letters="letters.jsonl")
    (letter,) = _letters("letters.jsonl")
    assert letter["original"]["value"] == "0.1"
    assert letter["original"]["at"] == 1_767_225_600.0


def test_an_id_that_parquet_has_no_room_for_is_told() -> None:
    Path("in.jsonl").write_bytes(msgspec.json.encode({"id": 2**63, "at": 0, "sensor": "a", "value": 1, "limit": None}))
    with pytest.raises(BadFile, match="does not fit into Parquet's 64 bits"):
        batch.score(readings, "in.jsonl", "out.parquet")
    assert batch.score(readings, "in.jsonl", "out.jsonl").scored == 1
