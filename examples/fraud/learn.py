"""Plays a world that changes through the pipeline, and says how good each model was, fortnight by fortnight.

    python examples/fraud/learn.py

No broker, no clock: payments of a day are scored, then the labels of a week before are learned, as they would be by
a worker that has one partition. Each label first scores the predictions that its payment was given.
"""

import argparse

from headrace.examples.fraud.generator import LABEL_DELAY_SECONDS, simulate
from headrace.examples.fraud.pipeline import Chargeback, Transaction, pipeline

from headrace.models.quality import Quality

MODELS = {"static": "static", "online": "online", "score": "combined"}
FORTNIGHT = 14


def outcomes(days):
    """Yield what became known of payments, a list for each day of payments."""
    state, waiting = pipeline.fresh(), []
    for day in days:
        pipeline.step([Transaction(**one) for one in day.transactions()], state)
        waiting.append(day)
        if (day.number + 1 - waiting[0].number) * 86_400 > LABEL_DELAY_SECONDS:
            labels = [Chargeback(**one) for one in waiting.pop(0).labels()]
            yield pipeline.learn(labels, state).outcomes


def judged(known):
    """Return the quality of each model over lists of outcomes."""
    judges = {name: Quality("binary") for name in MODELS}
    for some in known:
        for name, judge in judges.items():
            scores = [getattr(one, name) for one in some]
            judge.add([one.at for one in some], scores, [one.label for one in some])
    return {MODELS[name]: judge.report()["overall"] for name, judge in judges.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--terminals", type=int, default=4_000)
    parser.add_argument("--fortnights", type=int, default=6)
    parser.add_argument("--change-day", type=int, default=42)
    options = parser.parse_args()
    size = options.seed, options.customers, options.terminals
    days = simulate(*size, days=FORTNIGHT * options.fortnights + 7, change_day=options.change_day)
    known = outcomes(days)
    print(f"{'':12}  log loss{'':23}area under the precision-recall curve")
    print(f"{'days':12}" + 2 * "".join(f"{name:>10}" for name in MODELS.values()))
    for number in range(options.fortnights):
        told = judged(next(known) for _ in range(FORTNIGHT)).values()
        numbers = [one[measure] for measure in ("log_loss", "pr_auc") for one in told]
        begin = FORTNIGHT * number
        print(f"{begin:3} to {begin + FORTNIGHT - 1:<5}" + "".join(f"{one:10.4f}" for one in numbers), flush=True)


if __name__ == "__main__":
    main()
