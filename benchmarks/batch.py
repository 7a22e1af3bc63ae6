"""How fast a file is scored, and in how much memory, next to the model's bare predict on the same rows.

    python benchmarks/batch.py --rows 1000000

Makes a Parquet file of seeded payments, scores it with ``headrace score`` in a process of its own, and checks every
score. The bare predict is what a notebook does: the file as numpy columns, through features and model in one go, with
no events, no checks and no predictions written. It is what the model costs, and not another way to do the job.
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


class Frame(dict):
    """Whole columns under their names, as a feature wants them."""

    @property
    def count(self):
        return len(next(iter(self.values())))


def main():
    parser = argparse.ArgumentParser(description="How fast is a file scored, and in how much memory?")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = events.make(options.rows, options.seed)
        expected = made.expected()
        source = folder / "in.parquet"
        _make(made, source)
        for kind in ("jsonl", "csv"):
            _convert(source, folder / f"in.{kind}")
        found = {"bare": [_bare(source, expected) for _ in range(options.rounds)]}
        for _ in range(options.rounds):
            for way in WAYS:
                found.setdefault(" to ".join(way), []).append(_score(folder, *way, expected))
    _report(options.rows, found)
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "seed": options.seed, "measured": found}, indent=1))


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


def _report(rows, found):
    print(f"{rows:,} rows, medians of {len(found['bare'])} rounds")
    print(f"{'':22}{'rows/s':>12}{'with start-up':>15}{'CPU us/row':>12}{'peak MiB':>10}")
    for name, rounds in found.items():
        median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        whole = f"{rows / median['seconds']:>15,.0f}"
        if name == "bare":
            print(f"{'bare predict':22}{median['rate']:>12,.0f}{whole}   (with reading the file)")
        else:
            print(f"{name:22}{median['rate']:>12,.0f}{whole}{median['cpu_us']:>12.2f}{median['peak_mib']:>10.0f}")


if __name__ == "__main__":
    main()
