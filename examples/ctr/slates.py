"""Fills pages from predictions, explores, and learns from the log of that how other policies would have done.

    python examples/ctr/slates.py

A request has eight candidates, of which five are shown. The pipeline scores each as if it were on top; a policy that
explores fills the slots and logs how likely each item was in its slot (``headrace.models.slate``). The log is all that
the estimates see. The world is made up, so what they should be is known: it stands beside them.
"""

import argparse

import numpy as np
from headrace.examples.ctr.generator import HOUR_SECONDS, SLOTS, World
from headrace.examples.ctr.pipeline import CATEGORIES, age_log, brand_new
from headrace.examples.ctr.pipeline import pipeline as impressions

from headrace import Event, Linear, Pipeline, one_hot
from headrace.models.slate import EpsilonGreedy, PlackettLuce, draw, estimate, propensity_of

SEED = 1
LOGS = EpsilonGreedy(0.5)  # of the visits that explore: every second slot
POLICIES = {
    "explores half of the slots": LOGS,
    "explores one slot in ten": EpsilonGreedy(0.1),
    "greedy": EpsilonGreedy(0.0),
    "Plackett-Luce": PlackettLuce(0.5),
    "at random": EpsilonGreedy(1.0),
}


class Candidate(Event, topic="candidates", key="user"):
    """An item that may be shown on a page, as whatever looks for candidates publishes it."""

    id: str
    at: float
    user: str
    request: str  # the page
    item: str
    category: str
    published: float


# The weights are those of impressions. The slot's is left out, as if each candidate were on top: the model has learned
# beside it what an item is worth. So are those of the user, which are the same for all candidates of a request.
FEATURES = {"age_log": age_log, "brand_new": brand_new, **one_hot("category", CATEGORIES)}
pipeline = Pipeline(
    name="candidates",
    events=Candidate,
    features=FEATURES,
    static=Linear(
        {name: impressions.static.weights[name] for name in FEATURES},
        bias=impressions.static.bias,
        version=impressions.static.version,
    ),
)


def ranked(requests, state):
    """Return the ids of the requests, and of each a row of its candidates' scores, as logarithms of their odds."""
    events = [Candidate(**one) for one in requests.candidates()]
    made = np.array([made.score for made in pipeline.step(events, state).predictions])
    ids = [event.request for event in events[:: requests.item.shape[1]]]
    return ids, np.log(made / (1 - made)).reshape(requests.item.shape)


def shown(requests, slates):
    """Return which items are shown, and how likely a click on each is."""
    items = np.take_along_axis(requests.item, slates.places, axis=1)
    return items, requests.click_chances(items, np.arange(1, SLOTS + 1))


def played(world, hours, seed=SEED):
    """Yield, hour by hour: requests, scores, the page that was logged, clicks on it."""
    state = pipeline.fresh()
    for number in hours:
        requests = world.requests(number)
        ids, scores = ranked(requests, state)
        log = draw(ids, scores, SLOTS, LOGS, seed=seed)
        chances = shown(requests, log)[1]
        yield requests, scores, log, np.random.default_rng([seed, number]).random(chances.shape) < chances


def truth(requests, scores, policy, seed=SEED + 1):
    """Return what a policy would earn on each page, as only the maker of the world can know."""
    ids = [f"truth-{place}" for place in range(len(scores))]
    return shown(requests, draw(ids, scores, SLOTS, policy, seed=seed))[1]


def judged(hours):
    """Return of each policy what the log says that it would earn a page, and what it would; and clicks by slot."""
    hours = list(hours)
    clicks = np.concatenate([clicked for *_, clicked in hours])
    logged = np.concatenate([log.propensity for _, _, log, _ in hours])
    told = {}
    for name, policy in POLICIES.items():
        wanted = np.concatenate([propensity_of(log.places, scores, policy) for _, scores, log, _ in hours])
        earns = np.concatenate([truth(requests, scores, policy) for requests, scores, *_ in hours])
        by_slot = [
            estimate(clicks[:, [slot]], logged[:, : slot + 1].prod(1)[:, None], wanted[:, : slot + 1].prod(1)[:, None])
            for slot in range(SLOTS)
        ]
        told[name] = estimate(clicks, logged, wanted), float(earns.sum(axis=1).mean()), by_slot, earns.mean(axis=0)
    return told, clicks.mean(axis=0)


def newest(hours):
    """Return what part items in their first hour are of all candidates, of greedy pages, and of those in the log."""
    new, greedy, logged = [], [], []
    for requests, scores, log, _ in hours:
        new.append(requests.at[:, None] - requests.world.published(requests.item) < HOUR_SECONDS)
        best = draw(range(len(scores)), scores, SLOTS, EpsilonGreedy(0.0))
        greedy.append(np.take_along_axis(new[-1], best.places, axis=1))
        logged.append(np.take_along_axis(new[-1], log.places, axis=1))
    return tuple(float(np.concatenate(one).mean()) for one in (new, greedy, logged))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--hours", type=int, default=24)
    options = parser.parse_args()
    hours = list(played(World(options.seed, options.users), range(options.hours), options.seed))
    told, by_slot = judged(hours)
    print(f"{sum(len(clicks) for *_, clicks in hours):,} pages of {LOGS}\n")
    print(f"{'clicks a page':28}{'IPS':>17}{'SNIPS':>17}{'truth':>9}")
    for name, (one, earns, *_) in told.items():
        print(f"{name:28}{one.ips:8.4f} ± {one.ips_error:.4f}{one.snips:8.4f} ± {one.snips_error:.4f}{earns:9.4f}")
    print(f"\n{'clicks by slot':28}" + "".join(f"{slot:9}" for slot in range(1, SLOTS + 1)))
    _, _, estimates, earns = told["at random"]
    rows = {"in the log": by_slot, "at random, SNIPS": [one.snips for one in estimates], "at random, truth": earns}
    for name, values in rows.items():
        print(f"{name:28}" + "".join(f"{one:9.4f}" for one in values))
    parts = "{:.1%} of candidates, {:.1%} of greedy pages, {:.1%} of these".format(*newest(hours))
    print(f"\nitems in their first hour: {parts}")


if __name__ == "__main__":
    main()
