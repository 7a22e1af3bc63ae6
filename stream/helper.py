"""A thread for calls that may never return."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Helper:
    """Carries out calls one after the other, on a thread that nobody has to wait for.

    An executor's threads are joined when the interpreter ends, so one call that never returns would keep the
    process for ever. This one is a daemon: who gives a call up leaves the thread behind and makes a new helper.

    >>> Helper("example").submit(max, 1, 2).result()
    2
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Have it called when those before it have returned."""
        future: Future[T] = Future()
        self._calls.put((future, lambda: call(*arguments)))
        return future

    def end(self) -> None:
        """End the thread after the calls that are submitted, if they return."""
        self._calls.put(None)

    def _run(self) -> None:
        while (given := self._calls.get()) is not None:
            future, call = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                made = call()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)
            else:
                future.set_result(made)
