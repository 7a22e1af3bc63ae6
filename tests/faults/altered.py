"""The job of remembering.py in a worker that was altered, as FAULTS_ALTERED says.

``hasty`` takes snapshots a thousand times as often as there is need to, so that faults meet them. The others are
wrong, and the recount has to find them out: ``forgetful`` begins with an empty memory whatever was committed, and
``stubborn`` keeps in memory what was aborted.
"""

import os
from itertools import count
from typing import Any

from headrace.stream import state
from headrace.stream.commit import Committer
from remembering import pipeline

__all__ = ["pipeline"]


def hasty() -> None:
    """Take a snapshot for a few changes, in pieces of a few keys."""
    state.SNAPSHOT_BYTES_MIN, state.PIECE_BYTES_MAX = 4_000, 2_000


def forgetful() -> None:
    """Begin with nothing."""
    state.Memories._restored = state.Memories._new_at


def stubborn() -> None:
    """Go on with the memory that there is, wherever the batch begins; some transactions are aborted to show it."""
    ready, commit, commits = state.Memories.ready, Committer._commit_transaction, count(1)

    def stubbornly(self: Any, place: Any, after: int | None, epoch: int) -> Any:
        topic, number = place
        if (held := self._held.get(number)) is not None:
            held.follows[topic] = after
        return ready(self, place, after, epoch)

    def now_and_then(self: Any) -> None:
        if next(commits) % 4:
            commit(self)
        elif self._open:
            if self._abort():
                self._poller.rewind()
            else:  # as after any other abort that the broker refuses
                self._replace_producer()

    state.Memories.ready, Committer._commit_transaction = stubbornly, now_and_then
    state.Memories._stayed = lambda *_: True


{one.__name__: one for one in (hasty, forgetful, stubborn)}[os.environ["FAULTS_ALTERED"]]()
