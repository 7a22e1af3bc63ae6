"""A model in a process of its own: it may hang or die, and takes nothing with it."""

import ctypes
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from headrace.models.features import Floats
from headrace.models.reasons import why_none
from headrace.models.static import Explained, ModelFailed, ModelGone, contributions_of, scores_of, told
from headrace.schemas.errors import BadModel
from headrace.schemas.manifest import Manifest

log = logging.getLogger("headrace.isolated")

LOAD_SECONDS = 120.0  # for importing its library and reading the model
DEADLINE_MS_MAX = 60_000  # beyond that, a worker that waits would be taken for one that stands still
TRIES = 2  # of a batch

_FRAME = struct.Struct("<cQ")  # what it is, and how many bytes follow
_GIVEN, _SCORES, _RAISED, _READY, _REFUSED = b"g", b"s", b"e", b"y", b"n"
_WHY, _WHETHER = b"w", b"?"  # what the features contribute, and whether it can be told
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from headrace.stream import isolated; isolated.serve()"
)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Isolated:
    """Asks a model that lives in another process, and ends that process when no answer comes in time.

    The batch is then asked for once more, of a new process. If that one does not answer either, the whole batch
    has failed: to find out which of its events it was would cost the deadline each time. The other process is sent the
    model's bytes, so it has the model that was checked at the start, whatever lies in the folder by now.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, content: bytes, *, trusted: Sequence[str], deadline_ms: int
    ) -> None:
        if not 1 <= deadline_ms <= DEADLINE_MS_MAX:
            raise BadModel([f"{folder}: deadline_ms = {deadline_ms}: allowed are 1 to {DEADLINE_MS_MAX}"])
        self.features = tuple(one.name for one in manifest.features)
        self.version = manifest.version
        self._deadline_ms = deadline_ms
        self._folder = folder
        about = {"folder": str(folder), "trusted": list(trusted), "manifest": msgspec.json.encode(manifest).decode()}
        self._begin = [json.dumps(about).encode(), content]
        self._child = _Child(self._begin)
        try:
            self.rows = self._wait_until_ready()
        except (OSError, EOFError) as error:
            raise BadModel([f"{folder}: was not loaded: {self._problem(error, LOAD_SECONDS)}"]) from error
        self.ended = 0  # processes that were ended, or ended

    def score(self, features: Mapping[str, Floats]) -> Floats:
        """Return one score per event."""
        return np.frombuffer(self._asked(_GIVEN, self._rows(features)), np.float64).copy()

    def why_no_reasons(self) -> str:
        """Say why it cannot tell what features contribute, or nothing if it can."""
        return self._asked(_WHETHER, b"", LOAD_SECONDS).decode()

    def contributions(self, features: Mapping[str, Floats]) -> Floats:
        """Return what each feature contributed, a row per event, and in the last column what there is without them."""
        answer = np.frombuffer(self._asked(_WHY, self._rows(features)), np.float64)
        return answer.reshape(-1, len(self.features) + 1).copy()

    def _rows(self, features: Mapping[str, Floats]) -> bytes:
        return np.stack([features[name] for name in self.features], axis=1).tobytes()

    def _asked(self, what: bytes, given: bytes, seconds: float = 0.0) -> bytes:
        """Return the answer of the other process, or of a new one; each has so many seconds, or up to the deadline."""
        seconds = seconds or self._deadline_ms / 1_000
        problem = ""
        for _ in range(TRIES):
            try:
                self._wait_until_ready()
                kind, answer = self._child.ask(what, given, seconds)
            except (OSError, EOFError) as error:
                problem = self._problem(error, seconds)
                log.warning("the model in %s %s; a new process is started", self._folder, problem)
                self._replace()
                continue
            except BadModel as error:  # it could be loaded once, and now it cannot
                self._replace()
                raise ModelGone(str(error)) from error
            if kind == _SCORES:
                return answer
            raised = json.loads(answer)
            raise ModelFailed(raised["text"], raised["kind"])
        raise ModelGone(f"{problem}, in {TRIES} tries")

    def close(self) -> None:
        """End the other process."""
        self._child.end()

    def _problem(self, error: Exception, seconds: float) -> str:
        """End a process that did not answer, and return what was the matter with it."""
        if isinstance(error, TimeoutError):
            self._child.end()
            return f"did not answer within {1_000 * (seconds if self._child.rows is not None else LOAD_SECONDS):.0f} ms"
        return f"lost its process, which ended {self._child.ended()}"

    def _replace(self) -> None:
        """Put a new process in the place of one that is ended."""
        self.ended += 1
        try:
            self._child = _Child(self._begin)
        except OSError as error:
            raise ModelGone(f"lost its process, and there can be no new one: {error}") from error

    def _wait_until_ready(self) -> int:
        """Wait until the model is loaded, where it is not yet; return how many rows its calls have."""
        child = self._child
        if child.rows is None:
            kind, answer = child.receive(LOAD_SECONDS)
            said = json.loads(answer)
            if kind != _READY:
                child.end()
                raise BadModel(said)
            child.rows = said["rows"]
        return child.rows


class _Child:
    """A process with a model, and the line to it."""

    def __init__(self, begin: Sequence[bytes]) -> None:
        self.rows: int | None = None  # in a call; None until the model is loaded
        self._line, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        # Whoever forgets a model need not know that it has a process.
        self._finalizer = weakref.finalize(self, _end, self._process, self._line)
        self._line.settimeout(LOAD_SECONDS)
        for part in begin:
            self._send(part)

    def ask(self, what: bytes, rows: bytes, seconds: float) -> tuple[bytes, bytes]:
        """Return the answer, or raise what comes of a process that gives none in time."""
        self._line.settimeout(seconds)
        self._send(rows, what)
        return self.receive(seconds)

    def _send(self, content: bytes, what: bytes = _GIVEN) -> None:
        self._line.sendall(_FRAME.pack(what, len(content)))
        self._line.sendall(content)

    def receive(self, seconds: float) -> tuple[bytes, bytes]:
        """Return what comes next; whoever sends too slowly has not sent."""
        deadline = time.monotonic() + seconds
        kind, size = _FRAME.unpack(_read(self._line, _FRAME.size, deadline))
        return kind, _read(self._line, size, deadline)

    def ended(self) -> str:
        """Say how the process ended, which closed its end of the line."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self.end()
        code = self._process.returncode
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"

    def end(self) -> None:
        self._finalizer()


def _end(process: "subprocess.Popen[bytes]", line: socket.socket) -> None:
    line.close()
    process.kill()
    process.wait()


def _read(line: socket.socket, size: int, deadline: float | None = None) -> bytes:
    content = bytearray(size)
    view, done = memoryview(content), 0
    while done < size:
        if deadline is not None:
            line.settimeout(max(0.001, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                raise TimeoutError
        count = line.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return bytes(content)


# In the other process.


def serve() -> None:
    """Load the model that comes, and answer until the other end is closed."""
    number, parent = map(int, sys.argv[2:4])
    # Signals are for the worker, which finishes what it has begun; and whatever happens to it ends this one.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    with socket.socket(fileno=number) as line:
        try:
            _serve(line)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _serve(line: socket.socket) -> None:
    from headrace.stream import artifact  # noqa: PLC0415 - which imports this module

    about, content = json.loads(_take(line)[1]), _take(line)[1]
    manifest = msgspec.json.decode(about["manifest"], type=Manifest)
    try:
        model = artifact.tried(Path(about["folder"]), manifest, content, about["trusted"])
    except BadModel as error:
        _say(line, _REFUSED, json.dumps(error.problems).encode())
        return
    _say(line, _READY, json.dumps({"rows": getattr(model, "rows", 0)}).encode())
    names = [one.name for one in manifest.features]
    while True:
        what, given = _take(line)
        rows = np.frombuffer(given, np.float64).reshape(-1, len(names))
        columns = {name: np.ascontiguousarray(rows[:, place]) for place, name in enumerate(names)}
        try:
            if what == _WHETHER:
                answer = _SCORES, why_none(model).encode()
            elif what == _WHY:
                answer = _SCORES, contributions_of(cast("Explained", model), columns, len(rows)).tobytes()
            else:
                answer = _SCORES, scores_of(model, columns, len(rows)).tobytes()
        except Exception as error:  # noqa: BLE001 - it is told to whoever asked
            answer = _RAISED, json.dumps({"text": told(error), "kind": type(error).__name__}).encode()
        _say(line, *answer)


def _take(line: socket.socket) -> tuple[bytes, bytes]:
    what, size = _FRAME.unpack(_read(line, _FRAME.size))
    return what, _read(line, size)


def _say(line: socket.socket, kind: bytes, content: bytes) -> None:
    line.sendall(_FRAME.pack(kind, len(content)) + content)
