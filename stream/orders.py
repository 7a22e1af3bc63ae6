"""What is done about alerts by itself: orders that one worker gives and all partitions follow, each once.

Whoever raises an alert publishes the orders that belong to it to the control topic, of one partition, in the same
transaction. Every worker reads that topic from its beginning (``Listener``). Before a batch of events is scored, its
partition follows what was heard and what it has not followed yet; the step's change in the changelog says so, and a
record on the control topic tells it, in the transaction of that step. If that comes to nothing, nothing was followed.
"""

import logging
import threading
from collections.abc import Sequence

import msgspec

from headrace.models.actions import News
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.order import Action, Order, OrderState
from headrace.stream.commit import Output
from headrace.stream.state import Memory

log = logging.getLogger("headrace.orders")

_SAID = {
    Action.FALL_BACK: "the static model counts alone",
    Action.REWEIGHT: "the two models are weighed anew",
    Action.RESTART_LEARNER: "the learner begins anew",
    Action.ASK_FOR_RETRAINING: "the static model should be trained anew",
}
_OVER = {Action.FALL_BACK: "both models count again"}


class Orders:
    """What a worker has heard of the control topic, and what it does with that."""

    def __init__(self, name: str, config: Config) -> None:
        self.topic = config.control_topic
        self.caught_up = threading.Event()  # everything that was ordered when the worker began was heard
        self.heard: tuple[Order, ...] = ()  # in their order; put in place by whoever hears, at any moment
        self._name = name
        self._values: list[bytes | None] = []  # taken in, and not heard yet

    def take(self, key: bytes, value: bytes | None) -> None:  # noqa: ARG002 - the record says it all
        """Take one record in."""
        self._values.append(value)

    def told(self) -> None:
        """Hear what was taken in since."""
        values, self._values = self._values, []
        self.hear(values)

    def hear(self, values: Sequence[bytes | None]) -> None:
        """Take in records of the control topic; what was applied is no order, and what comes twice is one."""
        fresh = []
        last = self.heard[-1].moment if self.heard else None
        for value in values:
            try:
                order = msgspec.json.decode(value or b"", type=Order)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning("a record on %s is no order: %s", self.topic, error)
                continue
            if order.state is OrderState.APPLIED or order.pipeline != self._name:
                continue
            if last is None or order.moment > last:
                fresh.append(order)
                last = order.moment
        if fresh:
            self.heard = (*self.heard, *fresh)

    def news(self, memory: Memory) -> News | None:
        """Return what a partition is to follow; None where there is nothing new."""
        learning = memory.state.learning
        if learning is None or not self.caught_up.is_set():
            return None
        return learning.news(self.heard)

    def given(self, orders: Sequence[Order]) -> list[Output]:
        """Return orders as they are published."""
        for order in orders:
            log.warning("%s: %s, because of %s (%s)", order.state.value, _said(order), order.alert, order.text)
        return self.outputs(orders)

    def applied(self, orders: Sequence[Order], memory: Memory, offset: int) -> list[Order]:
        """Return what is told of orders that a partition follows from an offset on."""
        for order in orders:
            told = *memory.place, _said(order), offset, order.alert
            log.warning("%s[%d]: %s from offset %d on, because of %s", *told)
        return [order.applied(memory.place[1], offset=offset) for order in orders]

    def outputs(self, orders: Sequence[Order]) -> list[Output]:
        """Return the records of orders, given or applied."""
        return [Output(self.topic, one.id, encode(one), partition=0) for one in orders]


def _said(order: Order) -> str:
    return (_OVER if order.ends else _SAID)[order.action]
