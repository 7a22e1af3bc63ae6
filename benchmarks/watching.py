"""What a watch adds to the work of a worker: 50 features and how they go together, against the page without a watch.

Both step the same events, turn by turn, in this process, and what the monitor of the group does with the slices counts.
Then the same where what is usual follows the stream, with windows of two minutes (the shortest), an hour and a day, in
slices of as many events each. Ends with 1 if an event costs more than 2 us, or a day's window 1.1 times the shortest's.

    python benchmarks/watching.py                  three minutes; needs no broker
"""

import argparse
import sys
import time
from types import new_class

import numpy as np

from headrace import Event, Linear, Pipeline, field
from headrace.models import snapshot
from headrace.models.monitor import Monitor
from headrace.models.usual import usual, watch_of
from headrace.schemas.span import seconds

FEATURES = [f"f{number}" for number in range(50)]
BATCH = 500  # events of a step
SLICE = 250  # events of a slice, where windows are compared
COST_MOST_US = 2.0
GROWTH_MOST = 1.1
Wide = new_class(
    "Wide",
    (Event,),
    {"topic": "wide", "key": "user"},
    lambda body: body.update(__annotations__={"id": str, "at": float, "user": str, **dict.fromkeys(FEATURES, float)}),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000, help="of each round (default 200000)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    events = _events(options.events, per_second=1_000, seed=1)
    held = usual(_page(), [_events(50_000, per_second=1_000, seed=2)], every="10s")
    plain, watched, size = _beside(events, held, options.rounds, every="10s")
    cost = watched - plain
    print(
        f"50 features, slices of 10 s at 1,000 events/s: {plain:.2f} us per event without a watch, {watched:.2f} with"
    )
    met = cost <= COST_MOST_US
    print(
        f"a watch adds {cost:.2f} us per event (at most {COST_MOST_US}: {'met' if met else 'MISSED'}); monitor {size}"
    )
    costs = {}
    for window, every in (("2m", "1s"), ("1h", "30s"), ("24h", "60s")):
        rate = SLICE / seconds(every)
        reference = usual(_page(), [_events(50_000, per_second=rate, seed=2)], every=every)
        some = _events(1_600 * SLICE, per_second=rate, seed=3)  # a day of minutes, and more
        plain, watched, size = _beside(some, reference, options.rounds, every=every, against=f"last {window}")
        costs[window] = watched - plain
        print(
            f"window of {window:>3}, slices of {every:>3} with {SLICE} events: {costs[window]:.2f} us; monitor {size}"
        )
    grows = costs["24h"] / costs["2m"]
    print(f"a day's window costs {grows:.2f} times that of two minutes (at most {GROWTH_MOST})")
    return 0 if met and grows <= GROWTH_MOST else 1


def _page(watch=None):
    static = Linear(dict.fromkeys(FEATURES, 0.1))
    features = {name: field(name) for name in FEATURES}
    return Pipeline(name="wide", events=Wide, features=features, static=static, watch=watch)


def _events(count, *, per_second, seed):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(count, len(FEATURES)))
    values[:, 1::2] += 0.5 * values[:, ::2]  # some go together
    rows = values.tolist()
    return [Wide(str(n), n / per_second, f"u{n % 1_000}", *row) for n, row in enumerate(rows)]


def _beside(events, reference, rounds, **options):
    """Return microseconds per event of both pages, the least of some rounds, and how large the monitor's state is."""
    best, size = [float("inf")] * 2, ""
    for _ in range(rounds):
        for place, watch in enumerate((None, watch_of(reference, **options))):
            page = _page(watch)
            state, monitor = page.fresh(), Monitor(watch, name="wide", version="1") if watch else None
            began = time.process_time()
            for begin in range(0, len(events), BATCH):
                stepped = page.step(events[begin : begin + BATCH], state)
                if monitor is not None and stepped.slices:
                    monitor.step([{"partition": 0, "partitions": 1, "slice": one.dump()} for one in stepped.slices])
            best[place] = min(best[place], (time.process_time() - began) / len(events) * 1e6)
            if monitor is not None:
                size = f"{len(snapshot.encode(monitor.dump())) / 1024:,.0f} KiB"
    return *best, size


if __name__ == "__main__":
    sys.exit(main())
