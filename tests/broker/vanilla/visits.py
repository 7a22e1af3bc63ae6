"""A Faust program as Faust's own guide teaches it: an agent, a timer, a web page. Nothing here knows Headrace."""

import os

import faust

app = faust.App(
    os.environ.get("APP_ID", "visits"),
    broker=os.environ.get("BROKER_URL", "kafka://127.0.0.1:9092"),
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    store="memory://",
)


class Visit(faust.Record, serializer="json"):
    page: str
    number: int


visits = app.topic(os.environ.get("VISITS", "visits"), key_type=str, value_type=Visit)
beats = app.topic(os.environ.get("BEATS", "beats"), value_type=int)
seen: dict[str, int] = {}


@app.agent(visits)
async def count(stream):
    async for visit in stream:
        seen[visit.page] = seen.get(visit.page, 0) + 1


@app.timer(interval=0.2)
async def beat():
    await beats.send(value=sum(seen.values()))


@app.page("/count/")
async def page(self, request):
    return self.json(seen)
