"""Logs for a person, and for whoever collects them."""

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.schemas.errors import BadPipeline
from headrace.stream import cli, logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Whatever is set up is for one test."""
    root, ours = logging.getLogger(), logging.getLogger("headrace")
    before = root.handlers[:], root.level, ours.level, sys.excepthook, threading.excepthook
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], level, own, sys.excepthook, threading.excepthook = before
    root.setLevel(level)
    ours.setLevel(own)


def _said(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("form", "out", "as_json"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
)
def test_auto_is_text_on_a_terminal_and_json_elsewhere(form: str, out: io.StringIO, as_json: bool) -> None:
    assert logs.set_up("info", out, form=form) is as_json
    logging.getLogger("headrace.some").info("has %d partitions", 4)
    logging.getLogger("headrace.some").debug("nobody asked")
    if as_json:
        (line,) = _said(out)
        assert list(line) == ["ts", "level", "logger", "message"]
        assert (line["level"], line["logger"], line["message"]) == ("info", "headrace.some", "has 4 partitions")
    else:
        assert out.getvalue().endswith(" INFO    headrace.some: has 4 partitions\n")


def test_what_is_given_with_a_message_is_a_field_whatever_it_is_and_names_of_ours_stay() -> None:
    logs.set_up("info", out := io.StringIO(), form="json")
    circle: list[object] = []
    circle.append(circle)
    for given in ({"count": np.int64(3), "level": "mine", "ts": 0, 5: Path("a")}, {"a": "\ud800"}, {"a": circle}):
        logging.getLogger("headrace").warning("one\nline \x1b", extra=given)
    first, *_ = lines = _said(out)
    assert first["count"] == 3
    assert first["5"] == "a"
    assert {line["level"] for line in lines} == {"warning"}
    assert {line["message"] for line in lines} == {"one\nline \x1b"}
    assert len(lines) == 3


def test_tracebacks_warnings_and_what_ends_the_process_are_lines_too() -> None:
    logs.set_up("info", out := io.StringIO(), form="json")
    try:
        float("in a step")
    except ValueError as error:
        logging.getLogger("headrace").exception("the page could not be made")
        sys.excepthook(type(error), error, error.__traceback__)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    logs.tell(BadPipeline(["a.py:2: no"]))
    caught, ended, warned, died, told = _said(out)
    for one in (caught, ended):
        assert str(one["traceback"]).endswith("ValueError: could not convert string to float: 'in a step'")
    assert "DeprecationWarning: old" in str(warned["message"])
    assert str(died["traceback"]).endswith("ZeroDivisionError: division by zero")
    assert (told["code"], told["exit_code"], told["level"]) == ("BAD_PIPELINE", 2, "critical")
    assert told["message"] == "BAD_PIPELINE: pipeline cannot run (1 problem):\n  a.py:2: no"


def test_an_error_that_ends_a_worker_off_a_terminal_is_the_last_line_of_json(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("import nowhere_at_all\n")
    command = [sys.executable, "-m", "headrace.stream.cli", "run", "pipeline.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    last = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert last["code"] == "BAD_PIPELINE"
    assert "pipeline.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'" in last["message"]


@pytest.mark.parametrize(("level", "count"), [("info", 1), ("debug", 2)])
def test_what_services_do_step_by_step_is_for_debugging(level: str, count: int) -> None:
    logs.set_up(level, out := io.StringIO(), form="json")
    for text in ("[^Worker]: Starting...", "ready: fraud"):
        logging.getLogger("headrace.stream.app").info(text)
    assert len(_said(out)) == count


@pytest.mark.parametrize("command", ["run", "dev", "alerts"])
def test_what_runs_for_long_takes_the_format_on_its_command_line(command: str) -> None:
    path = [] if command == "alerts" else ["x.py"]
    options = cli._parser().parse_args([command, *path, "--log-format", "json"])
    assert cli._options(options, {"HEADRACE_LOG_FORMAT": "text"}).log_format == "json"
