"""Stock Faust with the whole job: windows and learners in tables, each change in their changelogs; at-least-once.

The River object stays in memory, or it would be built again for each event, and what it knows is put into its
table after each event.
"""

from collections import defaultdict

import faust_app
from learning import Errors, dump, features, fresh, load, online_score, prediction
from past import Past

faust_app.app.conf.topic_allow_declare = True  # the changelogs are not there yet
pasts = faust_app.app.Table("pasts", partitions=4)
learners = faust_app.app.Table("learners", partitions=4)
known = {}
errors = defaultdict(Errors)


@faust_app.app.agent(faust_app.transactions)
async def answer(stream):
    async for message in stream.events():
        event, partition = message.value, message.message.partition
        past = Past(*pasts.get(event["card"], ()))
        past.add(event["at"], event["amount"])
        pasts[event["card"]] = past.dump()
        learner = known.get(partition)
        if learner is None:
            kept = learners.get(str(partition))
            learner = known[partition] = load(kept) if kept else fresh()
        x = features(past, event["at"], event["amount"], event["lat"], event["lon"], event["country"])
        online = online_score(learner, errors[partition], x, event["label"])
        learners[str(partition)] = dump(learner)
        await faust_app.predictions.send(key=message.key, value=prediction(event, x, online))


if __name__ == "__main__":
    faust_app.run()
