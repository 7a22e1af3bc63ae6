"""What is logged: a line for a person, or an object of JSON for whoever collects logs."""

import json
import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO

import orjson

from headrace.schemas.errors import HeadraceError

AUTO, TEXT, JSON = "auto", "text", "json"
# What every record has; whatever else is on one was given with it.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

log = logging.getLogger("headrace")


class JsonLines(logging.Formatter):
    r"""One record as one line: ts, level, logger, message, what was given as ``extra``, and a traceback if any.

    >>> record = logging.makeLogRecord({"name": "headrace", "levelname": "INFO", "created": 0.5, "msg": "a\n%s"})
    >>> record.args, record.worker = ("b",), "host-0"
    >>> JsonLines().format(record)
    '{"ts":"1970-01-01T00:00:00.500Z","level":"info","logger":"headrace","message":"a\\nb","worker":"host-0"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "ts": f"{second}.{int(record.created % 1 * 1_000):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: value for name, value in vars(record).items() if name not in _OWN and name not in told}
        if record.exc_info and record.exc_info[0] is not None:
            told["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        try:
            return orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
        except TypeError:  # a lone surrogate, or what contains itself: it is told all the same
            return json.dumps({name: str(value) for name, value in told.items()})


def set_up(level: str, stream: TextIO | None = None, *, form: str = TEXT) -> bool:
    """Log to standard error from here on; return whether as JSON. ``auto`` is text on a terminal and JSON elsewhere."""
    out = sys.stderr if stream is None else stream
    as_json = form == JSON or (form == AUTO and not out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    )
    if level != "debug":
        handler.addFilter(_is_ours)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headrace").setLevel(level.upper())
    # Faust tells a person who runs it what it does step by step; here that is for debugging.
    quiet = logging.DEBUG if level == "debug" else logging.ERROR
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(quiet)
    if as_json:  # what ends the process is a line like every other
        logging.captureWarnings(capture=True)
        sys.excepthook = _unforeseen
        threading.excepthook = lambda said: _unforeseen(said.exc_type, said.exc_value, said.exc_traceback)
    return as_json


def _is_ours(record: logging.LogRecord) -> bool:
    """Say whether somebody wants it: what services of Faust's are about to do, they say under our modules' names."""
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


def tell(error: HeadraceError) -> None:
    """Log the error that ends a command."""
    log.critical("%s: %s", error.code, error, extra={"code": error.code, "exit_code": error.exit_code})


def _unforeseen(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt) or error is None:
        sys.__excepthook__(kind, error or kind(), trace)
        return
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
