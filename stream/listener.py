"""Hears a topic of one partition from its beginning on, for all that every worker has to know."""

import threading
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import TopicPartition

from headrace.schemas.config import Config
from headrace.stream.state import Tail, Takes

LISTEN_MS = 100  # how long a broker may take to say that there is nothing


class Hears(Takes, Protocol):
    """What takes in the records of such a topic, some at a time."""

    topic: str
    caught_up: threading.Event  # everything that was there when the worker began was heard

    def told(self) -> None:
        """Put in place what was taken in since."""


class Listener(threading.Thread):
    """Listens from the beginning to the end of the worker."""

    def __init__(self, name: str, hears: Hears, config: Config, on_failed: Callable[[BaseException], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._hears = hears
        self._config = config
        self._on_failed = on_failed
        self._closing = threading.Event()

    def close(self) -> None:
        """Hear no more."""
        self._closing.set()

    def run(self) -> None:
        """Listen until closed; an error that cannot be survived goes to ``on_failed``."""
        try:
            with Tail(self._config, TopicPartition(self._hears.topic, 0), wait_ms=LISTEN_MS) as tail:
                tail.begin(0.0)
                while not self._closing.is_set():
                    at_end = tail.read(self._hears)
                    self._hears.told()
                    if at_end:
                        self._hears.caught_up.set()
        except BaseException as error:  # noqa: BLE001 - the worker must hear of everything that ends this thread
            self._on_failed(error)
