"""A worker that has loaded everything but its pipeline, and waits to begin: ``headrace dev`` has one ready."""

import contextlib
import importlib
import os
import signal
import sys
import threading

from headrace.stream import cli, load, run

LOADED = (load, run)  # which take most of the time that a worker needs to begin


def main() -> None:
    """Load what the first line names, and begin with the second as ``headrace`` with these arguments.

    It ends when whoever started it has gone.
    """
    for name in sys.stdin.buffer.readline().decode().split():
        # What does not load, and why, the pipeline itself will say.
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    if not sys.stdin.buffer.readline():
        return
    threading.Thread(target=_end_with_parent, name="headrace-parent", daemon=True).start()
    cli.main(sys.argv[1:])


def _end_with_parent() -> None:
    # Nothing more is written, so this returns when the other end is closed, however that process died.
    while os.read(0, 1_024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
