"""The bare loop with the whole job: windows in a dictionary, and River itself, a learner for each partition.

Nothing of it survives the process.
"""

from collections import defaultdict

import bare_job
from partition import Partition
from typed import decode_labelled, encode

_partitions = defaultdict(Partition)


def predictions(messages):
    """Return what to publish for each message."""
    return [encode(_partitions[message.partition()].predict(decode_labelled(message.value()))) for message in messages]


if __name__ == "__main__":
    bare_job.main(__doc__, predictions)
