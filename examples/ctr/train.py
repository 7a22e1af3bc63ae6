"""Fits the weights in pipeline.py: logistic regression on simulated impressions, through the pipeline's own features.

    python examples/ctr/train.py

It prints the weights as they stand in pipeline.py, and how well they do on the day that follows.
"""

import argparse

import numpy as np
from headrace.examples.ctr.generator import World
from headrace.examples.ctr.pipeline import Impression, pipeline
from headrace.examples.fraud.train import auc, fit

WARM_UP_HOURS, TRAIN_HOURS, TEST_HOURS = 24, 72, 24  # windows fill up first
IN_TIME_SECONDS = 1_800.0


def impressions(world, hours, state):
    """Return features and outcomes of some hours, a row per impression."""
    rows, outcomes = [], []
    for number in hours:
        hour = world.hour(number)
        made = pipeline.transform([Impression(**one) for one in hour.impressions()], state)
        rows.append(np.column_stack([made[name] for name in pipeline.features]))
        outcomes.append(hour.clicked_at - hour.at <= IN_TIME_SECONDS)
    return np.concatenate(rows), np.concatenate(outcomes).astype(float)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=500)
    options = parser.parse_args()
    world, state = World(options.seed, options.users), pipeline.fresh()
    impressions(world, range(WARM_UP_HOURS), state)
    end = WARM_UP_HOURS + TRAIN_HOURS
    rows, outcomes = impressions(world, range(WARM_UP_HOURS, end), state)
    bias, weights = fit(rows, outcomes)
    print("weights:", {name: float(f"{one:.3g}") for name, one in zip(pipeline.features, weights, strict=True)})
    print("bias:", round(float(bias), 3))
    rows, outcomes = impressions(world, range(end, end + TEST_HOURS), state)
    made, clicked = f"{len(rows):,} impressions", f"{outcomes.mean():.2%} clicked on"
    print(f"the day after: {made}, {clicked}, AUC {auc(rows @ weights, outcomes):.3f}")


if __name__ == "__main__":
    main()
