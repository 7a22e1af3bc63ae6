"""Quix Streams with the whole job: one StreamingDataFrame, windows and learners in its state (RocksDB, changelog).

A card's windows are in the state of its key. A learner belongs to a partition, for which there is no key: it is in
the same store of that partition, under a key of its own. The River object stays in memory, or it would be built
again for each event, and what it knows is put into the state after each event, as JSON like the windows.
"""

from collections import defaultdict

from learning import Errors, dump, features, fresh, load, online_score, prediction
from past import Past
from quix_job import application
from quixstreams import message_context
from scoring import arguments

LEARNER = b"learner"


class Learners:
    """The learner of each partition, as far as its state."""

    def __init__(self, frame):
        self._frame = frame
        self._known = {}
        self._errors = defaultdict(Errors)

    def score(self, x, label):
        partition = message_context().partition
        # What a stateful function of Quix is handed, with another prefix than the message's key.
        checkpoint = self._frame.processing_context.checkpoint
        state = checkpoint.get_store_transaction(self._frame.stream_id, partition).as_state(prefix=LEARNER)
        learner = self._known.get(partition)
        if learner is None:
            kept = state.get("learner")
            learner = self._known[partition] = load(kept) if kept else fresh()
        score = online_score(learner, self._errors[partition], x, label)
        state.set("learner", dump(learner))
        return score


def main():
    options = arguments(__doc__)
    # With state a commit writes RocksDB and a changelog: seldom, where throughput is asked for.
    seldom = {"commit_interval": 1.0} if options.tuned_for == "throughput" else {}
    app = application(options, auto_create_topics=True, **seldom)
    transactions = app.topic(options.in_topic, key_deserializer="bytes", value_deserializer="json")
    predictions = app.topic(options.out_topic, key_serializer="bytes", value_serializer="json")
    frame = app.dataframe(transactions)
    learners = Learners(frame)

    def predict(event, state):
        past = Past(*state.get("past", ()))
        past.add(event["at"], event["amount"])
        state.set("past", past.dump())
        x = features(past, event["at"], event["amount"], event["lat"], event["lon"], event["country"])
        return prediction(event, x, learners.score(x, event["label"]))

    frame.apply(predict, stateful=True).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main()
