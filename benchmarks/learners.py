"""The learner alone: River row by row beside the compiled kernel, in one process, in turns.

The stateful job's learner (nine features, scaler and logistic regression, predict and learn on every event), and the
other pipelines that the kernel knows. Microseconds per event, the least of the rounds: whatever else the machine does
only ever adds. The fixed cost of a call is what a call with one event takes.

    python benchmarks/learners.py
    python benchmarks/learners.py --rounds 50 --features 20
"""

import argparse
import itertools
import time
from pathlib import Path

import msgspec
import numpy as np
from river import linear_model, optim, preprocessing

import contestants
from headrace.models.learners import learner_of, why_river

GOAL_US = 0.5  # per event, at 500 events a call
CALL_GOAL_US = 5.0  # per call with one event
ROWS = (1, 10, 100, 500)
EVENTS = 500  # of a turn: short, so that some turns are left alone by whatever else the machine does

PIPELINES = {
    "StandardScaler | LogisticRegression": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "LogisticRegression": linear_model.LogisticRegression,
    "StandardScaler | LinearRegression": lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(),
    "MinMaxScaler | LogisticRegression": lambda: preprocessing.MinMaxScaler() | linear_model.LogisticRegression(),
    **{
        f"StandardScaler | LogisticRegression({make.__name__})": lambda make=make: (
            preprocessing.StandardScaler() | linear_model.LogisticRegression(make())
        )
        for make in (optim.Adam, optim.AdaGrad, optim.FTRLProximal)
    },
}


def _events(features, seed):
    rng = np.random.default_rng(seed)
    columns = {f"feature_{number}": rng.normal(number, 10.0**number, size=EVENTS) for number in range(features)}
    return columns, (rng.random(EVENTS) < 0.05).astype(float)


def _turn(learner, columns, labels, rows):
    """Return the seconds that it takes to predict and learn, in calls of so many rows."""
    parts = [
        ({name: column[at : at + rows] for name, column in columns.items()}, labels[at : at + rows])
        for at in range(0, EVENTS, rows)
    ]
    began = time.perf_counter()
    for part, known in parts:
        learner.predict_learn(part, known)
    return (time.perf_counter() - began) / EVENTS


def measure(make, columns, labels, rows, rounds):
    """Return the least microseconds per event of River and of the kernel, taking turns."""
    least = {"river": float("inf"), "kernel": float("inf")}
    learners = {"river": learner_of(make(), kernel=False), "kernel": learner_of(make())}
    assert learners["kernel"].engine == "kernel", f"there is nothing to compare: {why_river(make())}"
    for _, (name, learner) in itertools.product(range(rounds), learners.items()):
        least[name] = min(least[name], _turn(learner, columns, labels, rows) * 1e6)
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--features", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default=str(contestants.HERE / "out"))
    options = parser.parse_args()
    columns, labels = _events(options.features, options.seed)
    record = []
    print(f"{'predict and learn, ' + str(options.features) + ' features':50} {'events a call':>13}", end="")
    print(f" {'River us':>10} {'kernel us':>10} {'times':>7}")
    for number, (name, make) in enumerate(PIPELINES.items()):
        for rows in ROWS if number == 0 else (500,):
            least = measure(make, columns, labels, rows, options.rounds)
            times = least["river"] / least["kernel"]
            record.append({"pipeline": name, "rows": rows, "us_per_event": least})
            print(f"{name:50} {rows:>13,} {least['river']:>10.2f} {least['kernel']:>10.3f} {times:>7.1f}", flush=True)
    job = {row["rows"]: row["us_per_event"]["kernel"] for row in record if row["pipeline"] == next(iter(PIPELINES))}
    print(f"the stateful job's learner: {job[500]:.3f} us per event at 500 a call (goal {GOAL_US})")
    print(f"a call with one event: {job[1]:.2f} us (goal {CALL_GOAL_US})")
    Path(options.out).mkdir(parents=True, exist_ok=True)
    Path(options.out, "learners.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
