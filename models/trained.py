"""The one learner of a whole stream: what it has learned, and how far it has come."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.learners import Learner
from headrace.models.learning import teach
from headrace.models.lessons import UNTAUGHT, Lessons, Version
from headrace.models.memory import NEVER, Array, Floats


class Trained:
    """A learner that takes the lessons of all partitions, one after the other in the order in which they lie.

    It is kept and made again as the state of a partition is: by ``dump`` and ``load``, and by ``take`` for what came
    since. Where the lessons are cut into batches does not show.

    >>> from river import linear_model
    >>> from headrace.models.learners import learner_of
    >>> trained = Trained(["amount"], learner_of(linear_model.LogisticRegression()), "as the page says it")
    >>> some = Lessons(["p1", "p2"], np.array([[1.0], [-1.0]]), np.array([1.0, 0.0]), np.array([5.0, 9.0]))
    >>> change = trained.learn(some, wrote=100.0)
    >>> trained.version, trained.at
    (Version(born=100.0, lessons=2), 9.0)
    """

    key_count = 0  # of states, whoever makes them again says how many keys they have

    def __init__(self, features: Sequence[str], learner: Learner, said: str) -> None:
        self.features = tuple(features)
        self.learner = learner
        self.version = UNTAUGHT
        self.at = NEVER  # of the newest lesson
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]

    def learn(self, lessons: Lessons, wrote: float) -> list[Any]:
        """Learn lessons of which the first was written then; return the change, as plain data."""
        self._learn(lessons.features, lessons.labels, lessons.at, wrote)
        part = {"features": lessons.features, "labels": lessons.labels, "at": lessons.at, "wrote": wrote}
        return [{"lessons": part}]

    def take(self, change: list[Any]) -> int:
        """Take in again what a step took in; return how many lessons that were."""
        count = 0
        for part in change:
            self._learn(**part["lessons"])
            count += len(part["lessons"]["labels"])
        return count

    def _learn(self, features: Array, labels: Floats, at: Floats, wrote: float) -> None:
        if not len(labels):
            return
        teach(self.learner, self.features, features, labels.copy())  # what was decoded lies anywhere in memory
        born = wrote if self.version == UNTAUGHT else self.version.born
        self.version = Version(born, self.version.lessons + len(labels))
        self.at = max(self.at, float(np.max(at)))

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "fingerprint": self.fingerprint,
            "version": list(self.version),
            "at": self.at,
            "learner": self.learner.dump(),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        assert data["fingerprint"] == self.fingerprint, "whoever loads has compared them"
        self.learner.load(data["learner"])
        self.version, self.at = Version(*data["version"]), data["at"]
