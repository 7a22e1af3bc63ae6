"""Plays a world that changes through the pipeline, and says how good each model was, six hours by six hours.

    python examples/ctr/learn.py

No broker, no clock: time passes in steps of five minutes, in which impressions are scored, clicks are learned from, and
those whose half hour is over without one are learned from too, as a worker would do it that has one partition.
"""

import argparse
from itertools import groupby

from headrace.examples.ctr.generator import HOUR_SECONDS, STARTED_AT, as_they_come, simulate
from headrace.examples.ctr.pipeline import Click, Impression, pipeline

from headrace.models.quality import Quality

MODELS = {"static": "static", "online": "online", "score": "combined"}
STEP_SECONDS, PART_HOURS = 300.0, 6


def outcomes(hours):
    """Yield what first became known of impressions."""
    state = pipeline.fresh()
    for step, told in groupby(as_they_come(hours), lambda told: told[1]["at"] // STEP_SECONDS):
        records = list(told)
        pipeline.step([Impression(**one) for topic, one in records if topic == "impressions"], state)
        clicks = pipeline.learn([Click(**one) for topic, one in records if topic == "clicks"], state)
        end = (step + 1) * STEP_SECONDS
        times_up = pipeline.tick(state, wall=end, event=end)
        yield from (one for one in (*clicks.outcomes, *times_up.outcomes) if one.by in {"label", "timeout"})


def judged(known, part_hours=PART_HOURS):
    """Return the quality of each model over parts of the time, by the number of the part."""
    parts = {}
    for part, some in groupby(known, lambda one: (one.event_at - STARTED_AT) // (part_hours * HOUR_SECONDS)):
        listed = list(some)
        judges = parts.setdefault(int(part), {name: Quality("binary") for name in MODELS})
        for name, judge in judges.items():
            judge.add([one.at for one in listed], [getattr(one, name) for one in listed], [one.label for one in listed])
    return {
        part: {MODELS[name]: judge.report()["overall"] for name, judge in judges.items()}
        for part, judges in sorted(parts.items())
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--hours", type=int, default=36)
    parser.add_argument("--change-hour", type=int, default=18)
    options = parser.parse_args()
    hours = simulate(options.seed, options.users, hours=options.hours, change_hour=options.change_hour)
    print(f"{'':12}  normalised entropy{'':13}area under the ROC curve")
    print(f"{'hours':12}" + 2 * "".join(f"{name:>10}" for name in MODELS.values()))
    for part, told in judged(outcomes(hours)).items():
        numbers = [one[measure] for measure in ("normalised_entropy", "roc_auc") for one in told.values()]
        begin = PART_HOURS * part
        print(f"{begin:3} to {begin + PART_HOURS - 1:<5}" + "".join(f"{one:10.4f}" for one in numbers))


if __name__ == "__main__":
    main()
