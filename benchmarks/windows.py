"""Features with a memory: what they cost and weigh, how fast they come back, and the job beside a bare loop.

The job: per card, the number and sum of its payments over five minutes and an hour, in tiles of a minute; a
linear model on those four; a prediction. The bare loop keeps the same windows in a dictionary and loses them with
its process; Headrace has every change in a changelog, in the transaction of its predictions.

    python benchmarks/windows.py                     # all of it, on the real broker (Java 17 and Maven)
    python benchmarks/windows.py --no-broker         # only what one process can say

``make bench`` runs it too.
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
import report
from headrace.models import snapshot
from headrace.schemas.codec import EventCodec
from headrace.stream.broker import RealBroker
from headrace.stream.load import load_pipeline
from topics import Topics

STEP_SECONDS = 0.01  # of event time from one event to the next: a card of 10,000 comes back after 100 s
STEP_COUNT = 500  # events at a time, as in a worker
CARDS_MANY, COUNT = 1_000_000, 600_000
# Of the same with 10,000 cards; of the bare loop; and of what comes back in a second.
MANY_SHARE_MIN, BARE_SHARE_MIN = 0.7, 0.9
CARD_BYTES_MAX, CHANGES_RATE_MIN, SNAPSHOT_RATE_MIN = 400, 200_000, 1_000_000


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
            "keys from changes": round(keys / from_changes),
            "keys from a snapshot": round(keys / from_snapshot),
        },
    }


def beside(arena, count, rounds, seed, names=()):
    """Run the whole job beside the bare loop on the real broker, in turns; return each one's rates."""
    entrants = [one for one in contestants.REMEMBERING if not names or one.name in names]
    pythons = {one.name: environments.python_of(one.peer) for one in entrants}
    rates = {one.name: [] for one in entrants}
    sent = _make(count, seed)
    arena.topics.drop(contestants.INPUT)
    arena.topics.create(contestants.INPUT)
    arena.topics.fill(contestants.INPUT, sent)
    for turn in range(rounds + 1):
        for one in entrants if turn % 2 else reversed(entrants):
            result = contest.throughput(arena, one, pythons[one.name], sent)
            note = report.remark(result) if turn else " (warm-up, not counted)"
            print(f"windows {one.name}: {result['rate'] or 0:,.0f}/s{note}", flush=True)
            if turn:
                rate = result["rate"] if result["verdict"]["clean"] else None  # what is wrong is not fast
                rates[one.name].append({"rate": rate or 0.0, "outputs": report.outputs([result])})
    arena.topics.drop(contestants.INPUT)
    return rates


def measure(arena, *, rounds, seed, cards=CARDS_MANY, count=COUNT, names=()):
    """Return what one process says and, where there is a broker, what the whole job does beside the bare loop."""
    many = 2 * cards
    record = {"inside": []}
    # The large run lasts less than an hour of event time, so that no card is forgotten before its end.
    for some, events_, step in ((events.CARDS, 400_000, STEP_SECONDS), (cards, many, 3_000 / many)):
        record["inside"].append(inside(some, events_, seed, step))
        print(f"windows in one process: {json.dumps(record['inside'][-1])}", flush=True)
    if arena is not None:
        try:
            record["beside"] = beside(arena, count, rounds, seed, names)
        except environments.NotInstalled as reason:
            record["not_run"] = str(reason)
    return record


def goals(record):
    """Return what is aimed for, and whether it was reached."""
    small, large = record["inside"]
    took = [row["us_per_event"]["with memory"] for row in (small, large)]
    cards, back = f"{large['cards']:,} cards", large["recovered_per_second"]
    step = f"a step over {cards}, times as fast as over {small['cards']:,}"
    found = [
        report.goal(step, took[0] / took[1], MANY_SHARE_MIN),
        report.goal(f"bytes per card, of {cards}", large["bytes_per_card"], most=CARD_BYTES_MAX),
        report.goal(f"{cards} back from changes alone, keys/s", back["keys from changes"], CHANGES_RATE_MIN),
        report.goal(f"{cards} back from a snapshot, keys/s", back["keys from a snapshot"], SNAPSHOT_RATE_MIN),
    ]
    medians = _medians(record)
    if bare := medians.get("bare-windows"):
        found += [
            report.goal(f"{name}, times the bare loop with windows", rate / bare, BARE_SHARE_MIN)
            for name, rate in medians.items()
            if name != "bare-windows"
        ]
    return found


def lines(record):
    """Return what a person reads."""
    rows = record["inside"]
    made = ["", "Features with a memory, in one process", _row("", [f"{row['cards']:,} cards" for row in rows])]
    for kind, said in (("us_per_event", "us per event"), ("recovered_per_second", "recovered per second")):
        made += [_row(f"{said}, {name}", [f"{row[kind][name]:,}" for row in rows]) for name in rows[0][kind]]
    plain = ("bytes_per_card", "changelog_bytes_per_event", "snapshot_mib", "snapshot_seconds")
    made += [_row(name.replace("_", " "), [row[name] for row in rows]) for name in plain]
    if "beside" in record:
        titles = {one.name: one.title for one in contestants.REMEMBERING}
        made += ["", f"{'The same features on the broker, events/s':42}{'median':>10}{'min':>10}{'max':>10}  outputs"]
        for name, rate in _medians(record).items():
            rates = [one["rate"] for one in record["beside"][name]]
            told = "; ".join(sorted({one["outputs"] for one in record["beside"][name]}))
            made.append(f"{titles[name]:42}{rate:>10,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}  {told}")
    if "not_run" in record:
        made.append(f"The job with a memory was not run: {record['not_run']}")
    return made


def _row(name, cells):
    return f"{name:42}" + "".join(f"{cell:>20}" for cell in cells)


def _medians(record):
    found = record.get("beside", {})
    return {name: statistics.median(one["rate"] for one in rounds) for name, rounds in found.items() if rounds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=COUNT, help="per run on the broker (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cards", type=int, default=CARDS_MANY, help="of the large run in one process")
    parser.add_argument("--only", default="", help="names of contestants, with commas between")
    parser.add_argument("--no-broker", action="store_true")
    parser.add_argument("--out", default=str(contestants.HERE / "out"))
    options = parser.parse_args()
    out = Path(options.out)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    names = [name for name in options.only.split(",") if name]
    wanted = {"rounds": options.rounds, "seed": options.seed, "cards": options.cards, "count": options.events}
    if options.no_broker:
        record = measure(None, **wanted)
    else:
        with RealBroker() as broker:
            arena = contest.Arena(broker.address, broker.pid, Topics(broker.address), out, options.seed, 120.0)
            record = measure(arena, **wanted, names=names)
    record["goals"] = goals(record)
    print("\n".join([*lines(record), *report.goal_lines(record["goals"])]))
    (out / "windows.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
