"""A webhook on loopback, that does what a test says."""

import http.server
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self


class Got(NamedTuple):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Hook:
    """Answers each request as ``answer`` says: with a status, or with whatever a function does to the connection."""

    def __init__(self, answer: Callable[[Got, int], int | Callable[[Any], None]] = lambda _got, _place: 200) -> None:
        self.got: list[Got] = []
        self.accepted: list[Got] = []
        self.answer = answer
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got(self.path, dict(self.headers.items()), body)
                hook.got.append(got)
                answer = hook.answer(got, len(hook.got) - 1)
                if callable(answer):
                    answer(self)
                    return
                if 200 <= answer < 300:
                    hook.accepted.append(got)
                self.send_response(answer)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_args: Any) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None: ...  # a client may hang up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/hunter2"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def keys(self) -> list[str]:
        """What was taken, by its idempotency key."""
        return [got.headers["Idempotency-Key"] for got in self.accepted]


def wait_until(done: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that comes, however busy the machine is."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
