"""Fits the weights in pipeline.py: logistic regression on simulated payments, through the pipeline's own features.

    python examples/fraud/train.py

The features are made by the pipeline that will serve them, from the same events in the same order, so what the
model learns from is what it will see. It prints the weights as they stand in pipeline.py, and how well they do
on the weeks that follow.
"""

import argparse

import numpy as np
from headrace.examples.fraud.generator import World
from headrace.examples.fraud.pipeline import Transaction, pipeline

WARM_UP_DAYS, TRAIN_DAYS, TEST_DAYS = 28, 45, 15  # windows fill up first
RIDGE = 1.0


def payments(world, days, state):
    """Return features and outcomes of some days, a row per payment."""
    rows, outcomes = [], []
    for number in days:
        day = world.day(number)
        made = pipeline.transform([Transaction(**one) for one in day.transactions()], state)
        rows.append(np.column_stack([made[name] for name in pipeline.features]))
        outcomes.append(day.scenario > 0)
    return np.concatenate(rows), np.concatenate(outcomes).astype(float)


def fit(rows, outcomes):
    """Return bias and weights of a logistic regression, by Newton's method on standardised columns."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread == 0] = 1.0
    x = np.column_stack([np.ones(len(rows)), (rows - mean) / spread])
    weights = np.zeros(x.shape[1])
    ridge = RIDGE * np.eye(x.shape[1])
    ridge[0, 0] = 0.0
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        change = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, x.T @ (outcomes - p) - ridge @ weights)
        weights += change
        if np.abs(change).max() < 1e-8:
            break
    slopes = weights[1:] / spread
    return weights[0] - slopes @ mean, slopes


def auc(scores, outcomes):
    """Return the probability that a fraud scores higher than an honest payment."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    frauds = outcomes.sum()
    return (ranks[outcomes == 1].sum() - frauds * (frauds + 1) / 2) / (frauds * (len(scores) - frauds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--terminals", type=int, default=4_000)
    options = parser.parse_args()
    world, state = World(options.seed, options.customers, options.terminals), pipeline.fresh()
    payments(world, range(WARM_UP_DAYS), state)
    end = WARM_UP_DAYS + TRAIN_DAYS
    rows, outcomes = payments(world, range(WARM_UP_DAYS, end), state)
    bias, weights = fit(rows, outcomes)
    print("weights:", {name: float(f"{one:.3g}") for name, one in zip(pipeline.features, weights, strict=True)})
    print("bias:", round(float(bias), 3))
    rows, outcomes = payments(world, range(end, end + TEST_DAYS), state)
    top = np.argsort(rows @ weights)[::-1][: int(outcomes.sum())]
    print(
        f"later days: {len(rows):,} payments, {outcomes.mean():.2%} fraudulent, AUC {auc(rows @ weights, outcomes):.3f}"
    )
    print(f"of the {len(top)} highest scores {outcomes[top].mean():.1%} are frauds")


if __name__ == "__main__":
    main()
