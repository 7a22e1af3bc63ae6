"""What each event should have come to, told slowly and apart from every contestant: windows, and what was learned."""

from collections import defaultdict

import numpy as np
from aiokafka.partitioner import murmur2
from river import linear_model, preprocessing

import events
from topics import PARTITIONS


def windows(at, card, amount):
    """Return what the card of each event did: counts and sums of five minutes and an hour, the event included.

    A list of minutes per card, added up anew for every event.
    """
    minutes: dict[int, dict[int, list[float]]] = defaultdict(dict)
    made = np.empty((4, len(at)))
    rows = zip((at // 60).astype(int).tolist(), card.tolist(), amount.tolist(), strict=True)
    for index, (now, number, paid) in enumerate(rows):
        known = minutes[number]
        tile = known.setdefault(now, [0, 0.0])
        tile[0] += 1
        tile[1] += paid
        for old in [one for one in known if one <= now - 60]:
            del known[old]
        short = [tile for one, tile in known.items() if one > now - 5]
        made[:, index] = (
            sum(count for count, _ in short),
            sum(total for _, total in short),
            sum(count for count, _ in known.values()),
            sum(total for _, total in known.values()),
        )
    return dict(zip(("count_5m", "sum_5m", "count_1h", "sum_1h"), made, strict=True))


def learned(features, card, label):
    """Return the score of each event by a learner of its partition, which learns the label right after."""
    learners = [preprocessing.StandardScaler() | linear_model.LogisticRegression() for _ in range(PARTITIONS)]
    partition_of = [_partition(events.card_name(number).encode()) for number in range(events.CARDS)]
    made = np.empty(len(card))
    rows = zip(card.tolist(), label.tolist(), *(column.tolist() for column in features.values()), strict=True)
    for index, (number, answer, *values) in enumerate(rows):
        learner = learners[partition_of[number]]
        x = dict(zip(features, values, strict=True))
        made[index] = learner.predict_proba_one(x)[True]
        learner.learn_one(x, answer)
    return made


def _partition(key):
    # As every producer here does it: the partitioner of Java's client.
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
