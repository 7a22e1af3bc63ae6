"""How fast a file is scored, and in how much memory, next to the model's bare predict on the same rows.

    python benchmarks/batch.py                       # a million rows in each format, and ten million of Parquet
    python benchmarks/batch.py --rows 100000 --many 1000000

Makes a Parquet file of seeded payments, scores it with ``headrace score`` in a process of its own, and checks every
score. The large file must take no more memory than the small one, but for a margin of 5 %: else it ends with 1. The
bare predict is what a notebook does: the file as numpy columns, through features and model in one go, with no events,
no checks and no predictions written. It is what the model costs, and not another way to do the job.

``make bench`` runs it too, as a part of its own.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import events
import report
from headrace.stream.load import load_pipeline
from peers.typed import Transaction
from process import Child

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = ROOT / "benchmarks/stateless"
# What is read, and what is written.
WAYS = (("parquet", "parquet"), ("jsonl", "jsonl"), ("csv", "csv"))
TEXT = ("id", "card", "merchant", "country")
MAKE_ROWS = 100_000
SECONDS_MAX = 3_600.0
ROWS, ROWS_MANY = 1_000_000, 10_000_000
MEMORY_SHARE_MAX = 1.05  # of the large file to the small one


class Frame(dict):
    """Whole columns under their names, as a feature wants them."""

    @property
    def count(self):
        return len(next(iter(self.values())))


def main():
    parser = argparse.ArgumentParser(description="How fast is a file scored, and in how much memory?")
    parser.add_argument("--rows", type=int, default=ROWS, help="in every format (default %(default)s)")
    parser.add_argument("--many", type=int, default=ROWS_MANY, help="in Parquet alone (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here too")
    options = parser.parse_args()
    record = measure(rows=options.rows, many=options.many, rounds=options.rounds, seed=options.seed)
    record["goals"] = goals(record)
    print("\n".join([*lines(record), *report.goal_lines(record["goals"])]))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))
    sys.exit(0 if all(one["met"] for one in record["goals"]) else 1)


def measure(*, rounds, seed, rows=ROWS, many=ROWS_MANY):
    """Score a small file in every format and a large one in Parquet; return what each round took."""
    record = {"seed": seed, "files": []}
    for count, ways in ((rows, WAYS), (many, WAYS[:1])):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made = events.make(count, seed)
            expected = made.expected()
            source = folder / "in.parquet"
            _make(made, source)
            del made
            for kind, _ in ways:
                if kind != "parquet":
                    _convert(source, folder / f"in.{kind}")
            found = {"bare": [_bare(source, expected) for _ in range(rounds)]}
            for number in range(rounds):
                for way in ways:
                    taken = _score(folder, *way, expected)
                    found.setdefault(" to ".join(way), []).append(taken)
                    told = f"{taken['rate']:,.0f} rows/s, {taken['peak_mib']:.1f} MiB"
                    print(f"files, round {number + 1}: {count:,} rows, {' to '.join(way)}: {told}", flush=True)
        record["files"].append({"rows": count, "measured": found})
    return record


def goals(record):
    """Return what is aimed for, and whether it was reached."""
    small, large = record["files"]
    way = " to ".join(WAYS[0])
    peaks = [_medians(one["measured"][way])["peak_mib"] for one in (small, large)]
    what = f"memory for {large['rows']:,} rows of Parquet, times that for {small['rows']:,}"
    return [report.goal(what, peaks[1] / peaks[0], most=MEMORY_SHARE_MAX)]


def _make(made, path):
    schema = pa.schema(
        [(name, pa.string()) if name in TEXT else (name, pa.float64()) for name in Transaction.__struct_fields__]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, len(made), MAKE_ROWS):
            here = slice(first, first + MAKE_ROWS)
            cards, merchants, abroad = (column[here].tolist() for column in (made.card, made.merchant, made.abroad))
            columns = {
                "id": [events.event_id(first + at) for at in range(len(cards))],
                "at": made.at[here],
                "card": [events.card_name(card) for card in cards],
                "merchant": [f"m-{merchant:04}" for merchant in merchants],
                "amount": made.amount[here],
                "lat": made.lat[here],
                "lon": made.lon[here],
                "country": ["BE" if one else "FR" for one in abroad],
            }
            writer.write_table(pa.table(columns, schema=schema))


def _convert(source, target):
    """Write the same rows as text, the header of CSV once."""
    with target.open("w") as file:
        for batch in parquet.ParquetFile(source).iter_batches():
            if target.suffix == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
                continue
            if not file.tell():
                file.write(",".join(batch.schema.names) + "\n")
            file.writelines(",".join(map(str, row.values())) + "\n" for row in batch.to_pylist())


def _bare(source, expected):
    """Return what scoring costs without events: reading, and then features and model."""
    pipeline = load_pipeline(str(PIPELINE))
    wanted = sorted({field for feature in pipeline.features.values() for field in feature.fields})
    began = time.perf_counter()
    table = parquet.read_table(source, columns=wanted)
    frame = Frame({name: table[name].to_numpy() for name in wanted})
    read = time.perf_counter()
    made = {name: feature.column(name, frame) for name, feature in pipeline.features.items()}
    scores = pipeline.static.score(made)
    done = time.perf_counter()
    assert np.abs(scores - expected).max() < 1e-9
    return {"seconds": done - began, "predict_seconds": done - read, "rate": len(scores) / (done - read)}


def _score(folder, kind, out_kind, expected):
    out = folder / f"out.{out_kind}"
    command = [
        sys.executable,
        "-m",
        "headrace.stream.cli",
        "score",
        PIPELINE,
        folder / f"in.{kind}",
        "-o",
        out,
        "--force",
    ]
    child = Child(command, folder / "log", folder)
    cpu, peak = 0.0, 0.0
    began = time.perf_counter()
    while child.ended is None:
        now = child.usage()
        cpu, peak = max(cpu, now[0]), max(peak, now[1])
        if time.perf_counter() - began > SECONDS_MAX:
            child.stop()
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    child.wait(SECONDS_MAX)
    told = child.tail()
    assert child.ended == 0, told
    scores = _scores(out)
    assert len(scores) == len(expected), told
    assert np.abs(scores - expected).max() < 1e-9
    return {
        "seconds": seconds,
        "rate": float(re.search(r"\((\S+) rows/s\)", told)[1].replace(",", "")),
        "cpu_us": cpu / len(expected) * 1e6,
        "peak_mib": peak,
    }


def _scores(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path, columns=["score"])["score"].to_numpy()
    with path.open() as file:
        if path.suffix == ".jsonl":
            return np.array([json.loads(line)["score"] for line in file])
        next(file)
        return np.array([float(line.split(",")[3]) for line in file])


def lines(record):
    """Return what a person reads."""
    made = [
        "",
        "Files of events",
        f"{'':36}{'rows':>12}{'rows/s':>12}{'with start-up':>15}{'CPU us/row':>12}{'peak MiB':>10}",
    ]
    for one in record["files"]:
        rows = one["rows"]
        for name, rounds in one["measured"].items():
            median = _medians(rounds)
            head = f"{rows:>12,}{median['rate']:>12,.0f}{rows / median['seconds']:>15,.0f}"
            if name == "bare":
                made.append(f"{'bare predict (start-up: reading)':36}{head}")
            else:
                made.append(f"{name:36}{head}{median['cpu_us']:>12.2f}{median['peak_mib']:>10.1f}")
    return made


def _medians(rounds):
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


if __name__ == "__main__":
    main()
