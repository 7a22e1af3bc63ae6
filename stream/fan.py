"""What is said once, written to many sockets by a thread of its own."""

import contextlib
import resource
import selectors
import socket
import threading
import time

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n"
    b"X-Content-Type-Options: nosniff\r\n\r\n"
)
LISTENERS_MAX = 2_000  # each is a descriptor and what its socket holds
DESCRIPTORS_SHARE = 0.5  # of what the process may have: the rest is the broker's and the state's
QUIET_SECONDS_MAX = 30.0  # one that takes nothing for so long is gone
WAIT_SECONDS_MAX = 5.0


class _Listener:
    __slots__ = ("left", "moved_at", "sock", "told")

    def __init__(self, sock: socket.socket, first: bytes, told: int, now: float) -> None:
        self.sock = sock
        self.left = memoryview(first)  # of what is being written
        self.told = told
        self.moved_at = now


class Fan(threading.Thread):
    """Writes the newest message to everybody who listens.

    Each message is one ``bytes`` for all. Whoever is slow gets the rest of what was begun and then the newest: what
    lies between is left out, so nobody is waited for and a listener costs nothing but its socket. To write lets go of
    the interpreter's lock, and a worker that is busy is not held up: its listeners hear less often.
    """

    def __init__(self) -> None:
        super().__init__(name="headrace-page-fan", daemon=True)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = most == resource.RLIM_INFINITY
        self.count_max = LISTENERS_MAX if unlimited else min(LISTENERS_MAX, int(most * DESCRIPTORS_SHARE))
        self._lock = threading.Lock()
        self._new: list[tuple[socket.socket, bytes, int]] = []
        self._newest = b""
        self._number = 0
        self._closing = False
        self._listeners: dict[int, _Listener] = {}
        self._waiting: set[int] = set()  # of those, whose sockets are full
        self._selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._selector.register(self._ours, selectors.EVENT_READ)

    @property
    def count(self) -> int:
        """How many listen."""
        with self._lock:
            return len(self._listeners) + len(self._new)

    def listen(self, sock: socket.socket, first: bytes) -> bool:
        """Begin to write to a socket, which is ours from now on; False where too many listen already."""
        if self.count >= self.count_max:
            sock.close()
            return False
        sock.setblocking(False)
        with self._lock:
            self._new.append((sock, HEAD + first, self._number))
        self._wake()
        return True

    def say(self, message: bytes) -> None:
        """Write this to everybody."""
        with self._lock:
            self._newest, self._number = message, self._number + 1
        self._wake()

    def close(self) -> None:
        """Let go of everybody."""
        self._closing = True
        self._wake()
        if self.ident is not None:
            self.join(WAIT_SECONDS_MAX)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full of wakes already, or closed
            self._theirs.send(b"!")

    def run(self) -> None:
        """Write until closed."""
        while not self._closing:
            ready = self._selector.select(WAIT_SECONDS_MAX)
            with self._lock:
                new, self._new = self._new, []
                newest, number = self._newest, self._number
                for sock, first, told in new:
                    self._listeners[sock.fileno()] = _Listener(sock, first, told, time.monotonic())
                everybody = list(self._listeners)
            for key, _ in ready:
                if key.fd == self._ours.fileno():
                    with contextlib.suppress(BlockingIOError):
                        while self._ours.recv(4_096):
                            pass
                elif key.fd in self._listeners:
                    self._write(key.fd, newest, number)
            for descriptor in everybody:
                if descriptor in self._listeners and descriptor not in self._waiting:
                    self._write(descriptor, newest, number)
            self._drop_quiet()
        for descriptor in list(self._listeners):
            self._drop(descriptor)
        self._selector.close()
        self._ours.close()
        self._theirs.close()

    def _write(self, descriptor: int, newest: bytes, number: int) -> None:
        """Write what is left of the last message and then the newest, as far as the socket takes it."""
        listener = self._listeners[descriptor]
        while True:
            if not listener.left:
                if listener.told == number:
                    self._wait(descriptor, full=False)
                    return
                listener.left, listener.told = memoryview(newest), number
            try:
                sent = listener.sock.send(listener.left)
            except BlockingIOError:
                self._wait(descriptor, full=True)
                return
            except OSError:
                self._drop(descriptor)
                return
            listener.left = listener.left[sent:]
            listener.moved_at = time.monotonic()
            if listener.left:
                self._wait(descriptor, full=True)
                return

    def _wait(self, descriptor: int, *, full: bool) -> None:
        if full and descriptor not in self._waiting:
            self._waiting.add(descriptor)
            self._selector.register(descriptor, selectors.EVENT_WRITE)
        elif not full and descriptor in self._waiting:
            self._waiting.discard(descriptor)
            self._selector.unregister(descriptor)

    def _drop_quiet(self) -> None:
        late = time.monotonic() - QUIET_SECONDS_MAX
        for descriptor in [one for one in self._waiting if self._listeners[one].moved_at < late]:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._wait(descriptor, full=False)
        with self._lock:
            listener = self._listeners.pop(descriptor)
        listener.sock.close()
