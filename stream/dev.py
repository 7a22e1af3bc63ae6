"""``headrace dev``: a worker that begins anew whenever its pipeline is saved."""

import ast
import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from headrace.schemas.config import Config
from headrace.schemas.errors import BadPipeline
from headrace.stream import terminal
from headrace.stream.broker import EmbeddedBroker, free_port
from headrace.stream.stopping import asked_to_stop

POLL_SECONDS = 0.1
QUIET_POLLS = 1  # without a change, before a change counts as whole: editors write a file in several goes
STANDBY_SECONDS = 2.0  # after a start, before the next worker is loaded: the processors are the first one's until then
STOP_MARGIN_SECONDS = 5.0  # beyond drain_timeout_ms
FILES_MAX = 2_000  # of a folder that is watched, or of which it is known what they import
MEMBER = "dev"
FETCH_WAIT_MS = 5  # the embedded broker answers a fetch that found nothing when its time is up

Seen = dict[Path, int | None]  # when each file was changed; None of one that is not there


def sources(path: Path, root: Path) -> set[Path]:
    r"""Return a file and what it imports from below ``root``, itself or by way of others, whether it is there or not.

    It is read and not run: a file that does not parse is one of them, and so is one that has still to be written.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, text in (("a.py", "import b\nfrom c.d import e"), ("b.py", "import json ("), ("c/d.py", "")):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     _ = (root / name).write_text(text)
    >>> found = sources(root / "a.py", root)
    >>> sorted(str(one.relative_to(root)) for one in found if one.exists())
    ['a.py', 'b.py', 'c/d.py']
    """
    found, waiting = {path}, [path]
    while waiting:
        one = waiting.pop()
        for name in _imported(one, root):
            for other in (root / f"{name}.py", root / name / "__init__.py"):
                if other not in found:
                    found.add(other)
                    if other.is_file():
                        waiting.append(other)
    return found


def libraries(path: Path, root: Path) -> set[str]:
    """Return the modules of others that a pipeline wants, which can be loaded before it is."""
    names = {name for one in sources(path, root) if one.is_file() for name in _imports(one, root)}
    return {name for name in names if not _is_below(root, name.partition(".")[0])}


def _is_below(root: Path, name: str) -> bool:
    return (root / f"{name}.py").exists() or (root / name).is_dir()


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Yield what a file imports, as paths without their ends from the root on."""
    for name in _imports(path, root):
        parts = name.split(".")
        yield from ("/".join(parts[:many]) for many in range(1, len(parts) + 1))


def _imports(path: Path, root: Path) -> tuple[str, ...]:
    """Return what a file imports, the library of Python left out; of ``from a import b`` both a and a.b.

    It is read when it was changed, and not whenever somebody looks, which is ten times a second.
    """
    moment = _moment(path)
    return () if moment is None else _read(path, root, moment)


@lru_cache(maxsize=FILES_MAX)
def _read(path: Path, root: Path, _moment: int) -> tuple[str, ...]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[str] = []
    here = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            names = [base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]
        else:
            continue
        found += (name for name in names if name.partition(".")[0] not in _LIBRARY)
    return tuple(found)


_LIBRARY = {"", "*", *sys.stdlib_module_names}


class Watch:
    """Says which files were changed since it was asked last, once the change is whole."""

    def __init__(self, path: Path, root: Path, others: Sequence[Path]) -> None:
        self._path = path
        self._root = root
        self._others = others
        self._seen = self._look()
        self._pending: set[Path] = set()
        self._quiet = 0

    def changed(self) -> set[Path]:
        """Return what was changed, or nothing: nothing was, or somebody is still at it."""
        now = self._look()
        moved = {one for one in now.keys() | self._seen.keys() if now.get(one) != self._seen.get(one)}
        self._seen = now
        if moved:
            self._pending |= moved
            self._quiet = 0
            return set()
        self._quiet += 1
        if self._quiet < QUIET_POLLS or not self._pending:
            return set()
        told, self._pending = self._pending, set()
        return told

    def _look(self) -> Seen:
        files = sources(self._path, self._root)
        for one in self._others:
            found = [each for each in sorted(one.rglob("*"))[:FILES_MAX] if each.is_file()] if one.is_dir() else [one]
            files.update(found)
        return {one: _moment(one) for one in files}


def _moment(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def where(name: str) -> tuple[Path, Path]:
    """Return the file that a person named as a pipeline, and the folder from which it imports its neighbours."""
    path = Path(name)
    if path.is_dir():
        path = path / "pipeline.py"
    if path.is_file():
        return path.resolve(), path.resolve().parent
    if not name.endswith(".py") and "/" not in name and not name.startswith("."):
        with contextlib.suppress(ModuleNotFoundError):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin and spec.has_location:
                file = Path(spec.origin).resolve()
                root = file.parent
                # As far up as folders are called what packages are, which is all the way unless they are mapped.
                for package in reversed(name.split(".")[:-1]):
                    if root.name != package:
                        break
                    root = root.parent
                return file, root
    raise BadPipeline([f"{name}: no such file, folder with a pipeline.py, or module"])


class Worker:
    """The process that scores now, and the one that has been loaded to take its place."""

    def __init__(
        self, path: Path, root: Path, arguments: Sequence[str], environ: Mapping[str, str], stop_seconds_max: float
    ) -> None:
        self._path = path
        self._root = root
        # Not -m alone, which would put the folder where one stands before all libraries; headrace run does not.
        self._command = [sys.executable, "-P", "-m", "headrace.stream.standby", *arguments]
        # Bytecode is looked up by the second and the size, and who tries things out saves more often than that.
        # The order of sets is fixed, because a worker that learns would begin a second time to have it so.
        self._environ = {"PYTHONHASHSEED": "0", **environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self._stop_seconds_max = stop_seconds_max
        self._began_at = 0.0
        self._running: subprocess.Popen[bytes] | None = None
        self._next: subprocess.Popen[bytes] | None = self._load()

    def _load(self) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C is for us, and we stop it before the broker goes.
        made = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            self._command, stdin=subprocess.PIPE, env=self._environ, start_new_session=True
        )
        _tell(made, " ".join(sorted(libraries(self._path, self._root))))
        return made

    def begin(self) -> None:
        """Let the next one begin."""
        assert self._running is None
        if self._next is None or self._next.poll() is not None:
            self._next = self._load()
        self._running, self._next, self._began_at = self._next, None, time.monotonic()
        _tell(self._running, "begin")

    def ended(self) -> int | None:
        """Return the exit code of the one that runs, once, when it has ended by itself; have the next one loaded."""
        if self._next is None and time.monotonic() - self._began_at > STANDBY_SECONDS:
            self._next = self._load()
        if self._running is None or (code := self._running.poll()) is None:
            return None
        self._running = None
        return code

    def stop(self) -> None:
        """Have it finish and commit what is in flight."""
        running, self._running = self._running, None
        if running is not None:
            _end(running, self._stop_seconds_max)

    def close(self) -> None:
        """End both."""
        self.stop()
        if self._next is not None:
            _end(self._next, STOP_MARGIN_SECONDS)


def _tell(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen elsewhere
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes], seconds_max: float) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def main(
    name: str,
    config: Config,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    embedded: bool,
    files: Sequence[str],
) -> int:
    """Run the pipeline, and begin anew with every change, until Ctrl-C; ``files`` are watched, too."""
    path, root = where(name)
    stopped = asked_to_stop()
    watch = Watch(path, root, [Path(one).absolute() for one in files])
    ours = ["run", name, *arguments]
    if config.web_port == 0:
        ours += ["--set", f"web_port={free_port()}"]  # one address for the page, however often it begins anew
    if not config.group_instance_id and not embedded:
        # For a member that comes back under its name the group is not shared out anew, for which a broker waits three
        # seconds. The embedded one does not know such members, and waits.
        ours += ["--set", f"group_instance_id={MEMBER}"]
    with contextlib.ExitStack() as stack:
        if embedded:
            broker = stack.enter_context(EmbeddedBroker())
            ours += ["--broker", broker.address, "--guarantee", config.guarantee]
            ours += ["--set", f"kafka.fetch.wait.max.ms={FETCH_WAIT_MS}"]
            _say(f"an embedded broker answers on {broker.address}, until this ends; --broker takes another")
        _say(f"watches {path} and what it imports from {root}; Ctrl-C ends")
        worker = Worker(path, root, ours, environ, config.drain_timeout_ms / 1_000 + STOP_MARGIN_SECONDS)
        stack.callback(worker.close)
        worker.begin()
        while not stopped.wait(POLL_SECONDS):
            if (code := worker.ended()) is not None:
                _say(f"the worker has ended with {code}, as it says above; the next change begins it anew")
            if changed := watch.changed():
                names = ", ".join(sorted(one.name for one in changed))
                _say(f"{names} changed: the worker stops, and begins anew where it was")
                worker.stop()
                worker.begin()
    _say("ended")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(terminal.painted(f"dev: {text}\n", "bold", colour=terminal.coloured(sys.stderr)))
    sys.stderr.flush()
