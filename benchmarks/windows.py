"""Features with a memory: what they cost and weigh, how fast they come back, and the job beside a bare loop.

The job: per card, the number and sum of its payments over five minutes and an hour, in tiles of a minute; a
linear model on those four; a prediction. The bare loop keeps the same windows in a dictionary and loses them with
its process; Headrace has every change in a changelog, in the transaction of its predictions.

    python benchmarks/windows.py                     # all of it, on the real broker (Java 17 and Maven)
    python benchmarks/windows.py --no-broker         # only what one process can say
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contest
import contestants
import environments
import events
import recount
from headrace.models import snapshot
from headrace.schemas.codec import EventCodec
from headrace.stream.broker import RealBroker
from headrace.stream.load import load_pipeline
from topics import Topics

STEP_SECONDS = 0.01  # of event time from one event to the next: a card of 10,000 comes back after 100 s
STEP_COUNT = 500  # events at a time, as in a worker
GOAL = 0.9  # of the bare loop


class Remembered(events.Events):
    """Events whose score depends on what came before."""

    def expected(self) -> np.ndarray:
        """Return the score of each event by a recount."""
        x = recount.windows(self.at, self.card, self.amount)
        z = -4.0 + 0.1 * x["count_5m"] + 0.002 * x["sum_5m"] + 0.01 * x["count_1h"] + 0.0001 * x["sum_1h"]
        return 1 / (1 + np.exp(-z))


def _make(count, seed, cards=events.CARDS, step=STEP_SECONDS):
    made = events.make(count, seed, at=events.STARTED_AT + step * np.arange(count))
    columns = made.columns() | {"card": np.random.default_rng(seed).integers(cards, size=count)}
    return Remembered(**columns)


def inside(cards, count, seed, step):
    """Step through events in this process; return rates, weights and the time to come back."""
    pipeline = load_pipeline(str(contestants.HERE / "remembering"))
    plain = load_pipeline(str(contestants.HERE / "stateless"))
    codec = EventCodec(pipeline.events)
    decoded, _ = codec.decode([value for _, value in _make(count, seed, cards, step).messages()])
    state, deltas = pipeline.fresh(), []
    took = {"with memory": 0.0, "changelog": 0.0, "stateless": 0.0}
    for at in range(0, count, STEP_COUNT):
        batch = decoded[at : at + STEP_COUNT]
        began = time.perf_counter()
        change = pipeline.step(batch, state).change
        stepped = time.perf_counter()
        deltas.append(snapshot.encode(change))
        kept = time.perf_counter()
        plain.step(batch, state)
        took["with memory"] += stepped - began
        took["changelog"] += kept - stepped
        took["stateless"] += time.perf_counter() - kept
    (table,) = state.tables.values()
    began = time.perf_counter()
    again = pipeline.fresh()
    for delta in deltas:
        again.take(snapshot.decode(delta))
    from_changes = time.perf_counter() - began
    began = time.perf_counter()
    blob = snapshot.encode(state.dump())
    pictured = time.perf_counter() - began
    began = time.perf_counter()
    pipeline.fresh().load(snapshot.decode(blob))
    from_snapshot = time.perf_counter() - began
    keys = state.key_count
    return {
        "cards": keys,
        "events": count,
        "us_per_event": {name: round(seconds / count * 1e6, 2) for name, seconds in took.items()},
        "changelog_bytes_per_event": round(sum(map(len, deltas)) / count, 1),
        "bytes_per_card": round(table.bytes / keys),
        "snapshot_mib": round(len(blob) / 2**20, 1),
        "snapshot_seconds": round(pictured, 2),
        "recovered_per_second": {
            "events from changes": round(count / from_changes),
            "keys from a snapshot": round(keys / from_snapshot),
        },
    }


def beside(out, count, rounds, seed, names):
    """Run the whole job beside the bare loop on the real broker, in turns."""
    entrants = [one for one in contestants.REMEMBERING if not names or one.name in names]
    pythons = {one.name: environments.python_of(one.peer) for one in entrants}
    rates = {one.name: [] for one in entrants}
    sent = _make(count, seed)
    with RealBroker() as broker:
        topics = Topics(broker.address)
        arena = contest.Arena(broker.address, broker.pid, topics, out, seed, 120.0)
        topics.create(contestants.INPUT)
        topics.fill(contestants.INPUT, sent)
        for turn in range(rounds + 1):
            for one in entrants if turn % 2 else reversed(entrants):
                result = contest.throughput(arena, one, pythons[one.name], sent)
                verdict = result["verdict"]
                flaws = {name: verdict[name] for name in ("missing", "doubled", "wrong") if verdict[name]}
                note = "warm-up, not counted" if not turn else f"flaws: {flaws}" if flaws else "each once, right"
                print(f"{one.name}: {result['rate'] or 0:,.0f}/s, {note}", flush=True)
                if turn:
                    rates[one.name].append(result["rate"] or 0.0)
    return {name: {"median": round(statistics.median(some)), "rounds": some} for name, some in rates.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=600_000, help="per run on the broker (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cards", type=int, default=1_000_000, help="of the large run in one process")
    parser.add_argument("--only", default="", help="names of contestants, with commas between")
    parser.add_argument("--no-broker", action="store_true")
    parser.add_argument("--out", default=str(contestants.HERE / "out"))
    options = parser.parse_args()
    record = {"inside": []}
    # The large run lasts less than an hour of event time, so that no card is forgotten before its end.
    for cards, count, step in ((10_000, 400_000, STEP_SECONDS), (options.cards, n := 2 * options.cards, 3_000 / n)):
        row = inside(cards, count, options.seed, step)
        record["inside"].append(row)
        print(json.dumps(row, indent=2), flush=True)
    small, large = (row["us_per_event"]["with memory"] for row in record["inside"])
    print(f"a step over {options.cards:,} cards is {small / large:.2f}x as fast as over 10,000 (goal 0.7)")
    if not options.no_broker:
        out = Path(options.out)
        (out / "logs").mkdir(parents=True, exist_ok=True)
        names = [name for name in options.only.split(",") if name]
        record["beside"] = beside(out, options.events, options.rounds, options.seed, names)
        bare = record["beside"].get("bare-windows", {}).get("median")
        for name, row in record["beside"].items():
            ratio = f"  {row['median'] / bare:.2f}x the bare loop (goal {GOAL})" if bare and "bare" not in name else ""
            print(f"{name:24} {row['median']:>10,}/s{ratio}")
    Path(options.out).mkdir(parents=True, exist_ok=True)
    Path(options.out, "windows.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
