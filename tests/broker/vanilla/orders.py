"""Another one: two agents in a chain over a topic. Nothing here knows Headrace either."""

import os

import faust

app = faust.App(
    os.environ.get("APP_ID", "orders"),
    broker=os.environ.get("BROKER_URL", "kafka://127.0.0.1:9092"),
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    store="memory://",
    web_enabled=False,
)


class Order(faust.Record, serializer="json"):
    number: int
    pieces: int
    price: float


class Bill(faust.Record, serializer="json"):
    number: int
    total: float


orders = app.topic(os.environ.get("ORDERS", "orders"), key_type=str, value_type=Order)
bills = app.topic(os.environ.get("BILLS", "bills"), key_type=str, value_type=Bill)
paid = app.topic(os.environ.get("PAID", "paid"), key_type=str, value_type=Bill)


@app.agent(bills, sink=[paid])
async def pay(stream):
    async for bill in stream:
        yield bill


@app.agent(orders)
async def bill(stream):
    async for key, order in stream.items():
        await bills.send(key=key, value=Bill(number=order.number, total=order.pieces * order.price))
