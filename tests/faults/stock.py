"""Stock Faust with its own ``exactly_once``, doing the same job: a negative control, not an example."""

import json
import os

import faust

app = faust.App(
    os.environ["FAULTS_GROUP"],
    broker=f"kafka://{os.environ['FAULTS_BROKER']}",
    processing_guarantee="exactly_once",
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=4,
    broker_heartbeat_interval=1,
    topic_disable_leader=True,
    topic_allow_declare=False,
    web_enabled=False,
    store="memory://",
)
transactions = app.topic(os.environ["FAULTS_TOPIC"], key_serializer="raw", value_serializer="raw")
predictions = app.topic(os.environ["FAULTS_PREDICTIONS"], key_serializer="raw", value_serializer="raw")


@app.agent(transactions)
async def score(stream):
    async for key, value in stream.items():
        event = json.loads(value)
        answer = {"id": event["id"], "at": event["at"], "card": event["card"], "score": 0.5}
        await predictions.send(key=key, value=json.dumps(answer).encode())
