"""A model in a process of its own: one that really hangs, or dies, and what becomes of its events and its process."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import Event, Fallback, Linear, Pipeline, Static, field, save_static
from headrace.models.laws import LAWS, Law
from headrace.schemas.errors import BadModel
from headrace.stream import isolated
from headrace.testing import Driver

# What a model may do to whoever asks it, by the number that it is asked about.
SLEEP, SPIN, ABORT, EXIT, RAISE = 101.0, 102.0, 103.0, 104.0, 105.0
# It stands where LightGBM would be imported, so that no test waits for a library.
LIBRARY = """
import os, re, sys, time
import numpy as np

class Booster:
    def __init__(self, model_str):
        assert model_str == "a model"

    def num_feature(self):
        return 1

    def feature_name(self):
        return ["amount"]

    def predict(self, rows, num_threads):
        print("x" * 10_000)
        for value in rows[:, 0].tolist():
            if value == 101:
                time.sleep(3600)
            if value == 102:
                re.match("(a|a)*$", "a" * 60 + "b")  # one call in C that holds the interpreter for years
            if value == 103:
                os.abort()
            if value == 104:
                sys.exit(3)
            if value == 105:
                raise ValueError("one hundred and five")
        return 2.0 * rows[:, 0]
"""
DEADLINE_MS = 600


class Payment(Event, topic="payments", key="card"):
    """What is scored here."""

    id: str
    at: float
    card: str
    amount: float


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model that does harm when it is asked about certain numbers."""
    where = tmp_path_factory.mktemp("harmful")
    (where / "lightgbm.py").write_text(LIBRARY)
    (where / "model").mkdir()
    (where / "model" / "model.txt").write_text("a model")
    _say(where / "model")
    sys.path.insert(0, str(where))  # which the other process is told
    yield where / "model"
    sys.path.remove(str(where))


def _say(folder: Path, **other: Any) -> None:
    manifest = {
        "format": 1,
        "kind": "lightgbm",
        "version": "7",
        "file": "model.txt",
        "sha256": {"model.txt": hashlib.sha256(b"a model").hexdigest()},
        "features": [{"name": "amount"}],
        "golden": {"rows": [[1.0], [2.0]], "scores": [2.0, 4.0], "tolerance": 0.0},
        **other,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _load(folder: Path, deadline_ms: int = DEADLINE_MS) -> Static:
    return Static(folder, deadline_ms=deadline_ms)


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Static]:
    """One such model for the tests that leave it as it is, or as good as new."""
    static = _load(folder)
    yield static
    static._model.close()  # type: ignore[attr-defined]


def _pid(static: Any) -> int:
    return static._model._child._process.pid


def _score(static: Any, *amounts: float) -> list[float]:
    return static.score({"amount": np.array(amounts)}).tolist()


def _pipeline(static: Any, **other: Any) -> Pipeline:
    return Pipeline(name="p", events=Payment, features={"amount": field("amount")}, static=static, **other)


def _payments(*amounts: float) -> list[Payment]:
    return [Payment(str(at), 1.0 * at, "c", amount) for at, amount in enumerate(amounts)]


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z" and os.getppid() != pid:  # dead, and nobody has asked yet how it ended
            return True
        time.sleep(0.02)
    return False


def test_it_scores_as_it_does_in_the_process_of_the_worker(shared: Static, tmp_path: Path) -> None:
    amounts = np.random.default_rng(1).uniform(0, 100, 300)
    assert _score(shared, *amounts) == (2.0 * amounts).tolist()
    assert (shared.features, shared.version, shared.rows) == (("amount",), "7", 0)
    save_static(Linear({"amount": -0.1}, bias=0.3), tmp_path, features=["amount"], version="1")
    assert _score(_load(tmp_path), *amounts) == _score(Static(tmp_path), *amounts)


def test_what_it_prints_disturbs_nobody(shared: Static) -> None:
    assert _score(shared, 3.0) == [6.0]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_it_keeps_the_law(law: Law, shared: Static) -> None:
    law(_pipeline(shared), 1)


@pytest.mark.parametrize("harm", [SLEEP, SPIN], ids=["sleeps for an hour", "holds the interpreter"])
def test_a_model_that_hangs_is_ended_the_batch_tried_once_more_and_then_given_up(
    harm: float, shared: Static, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver(_pipeline(shared))
    first = _pid(shared)
    began = time.monotonic()
    driver.pipe_all(_payments(1.0, harm, 3.0))
    assert time.monotonic() - began < 30.0, "two deadlines, and the start of a process"
    assert [(one.reason, one.message) for one in driver.dead_letters] == [
        ("model_failed", f"model did not answer within {DEADLINE_MS} ms, in 2 tries")
    ] * 3
    assert _is_gone(first)
    ended = [record.getMessage() for record in caplog.records if record.name == "headrace.isolated"]
    assert len(ended) == 2, "and no more: which event it was would take a deadline each time"
    driver.pipe_all(_payments(1.0, 3.0))
    assert [made["score"] for made in driver.predictions] == [2.0, 6.0]
    assert _pid(shared) != first


@pytest.mark.parametrize(("harm", "how"), [(ABORT, "by SIGABRT"), (EXIT, "with 3")])
def test_a_model_that_ends_its_process_ends_no_other(harm: float, how: str, shared: Static) -> None:
    pipeline = _pipeline(shared)
    effects = pipeline.step(_payments(1.0, harm), pipeline.fresh())
    told = f"model lost its process, which ended {how}, in 2 tries"
    assert [(one.message, one.error) for one in effects.rejections] == [(told, "ModelGone")] * 2
    assert _score(shared, 4.0) == [8.0]


def test_a_process_that_was_killed_from_outside_is_not_missed(shared: Static, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "headrace.isolated")
    os.kill(_pid(shared), signal.SIGKILL)
    assert _score(shared, 4.0) == [8.0], "the batch is tried once more, and well"
    (record,) = caplog.records
    assert "lost its process, which ended by SIGKILL; a new process is started" in record.getMessage()


def test_what_it_raises_is_told_as_if_it_were_raised_here(shared: Static) -> None:
    pipeline, first = _pipeline(shared), _pid(shared)
    effects = pipeline.step(_payments(1.0, RAISE, 3.0), pipeline.fresh())
    assert [one.score for one in effects.predictions] == [2.0, 6.0]  # type: ignore[attr-defined]
    ((at, _, message, error),) = effects.rejections
    assert (at, message, error) == (1, "model raised ValueError('one hundred and five')", "ValueError")
    assert _pid(shared) == first


def test_a_batch_that_hangs_gets_the_fallback_and_the_model_a_rest(shared: Static) -> None:
    pipeline = _pipeline(shared, fallback=Fallback(0.5, failing=0.5, of_last=4, rest=10))
    state = pipeline.fresh()
    made = pipeline.step(_payments(1.0, SLEEP), state).predictions
    assert [one.score for one in made] == [0.5, 0.5]  # type: ignore[attr-defined]
    ended = shared._model.ended  # type: ignore[attr-defined]
    made = pipeline.step(_payments(*[SLEEP] * 10), state).predictions
    assert [one.score for one in made] == [0.5] * 10  # type: ignore[attr-defined]
    assert shared._model.ended == ended, "it rests, so nobody waits for it"  # type: ignore[attr-defined]
    made = pipeline.step(_payments(1.0), state).predictions
    assert [one.score for one in made] == [2.0]  # type: ignore[attr-defined]


def test_a_model_replaced_on_disk_is_not_taken_up_by_a_new_process(tmp_path: Path) -> None:
    save_static(Linear({"amount": 1.0}, logistic=False), tmp_path, features=["amount"], version="1")
    static = Static(tmp_path, deadline_ms=DEADLINE_MS)
    save_static(Linear({"amount": 5.0}, logistic=False), tmp_path, features=["amount"], version="2")
    os.kill(_pid(static), signal.SIGKILL)
    assert (_score(static, 3.0), static.version) == ([3.0], "1")


def test_what_is_wrong_with_a_model_is_told_at_the_start_as_without_a_process(tmp_path: Path) -> None:
    save_static(Linear({"amount": 1.0}), tmp_path, features=["amount"], version="1", golden={"amount": [1.0]})
    held = json.loads((tmp_path / "manifest.json").read_text())
    held["golden"]["scores"] = [0.25]
    (tmp_path / "manifest.json").write_text(json.dumps(held))
    told = []
    for deadline_ms in (None, DEADLINE_MS):
        with pytest.raises(BadModel) as refused:
            Static(tmp_path, deadline_ms=deadline_ms)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert "golden: row 0" in told[0]
    for wrong in (0, isolated.DEADLINE_MS_MAX + 1):
        with pytest.raises(BadModel, match=f"deadline_ms = {wrong}: allowed are 1 to 60000"):
            Static(tmp_path, deadline_ms=wrong)


def _copied(folder: Path, target: Path, asked: float) -> None:
    """Make a folder whose model is asked about this number when it is loaded."""
    (target / "model.txt").write_bytes((folder / "model.txt").read_bytes())
    _say(target, golden={"rows": [[asked]], "scores": [1.0], "tolerance": 1.0})


def test_a_model_that_dies_while_it_is_loaded_is_told_at_the_start(tmp_path: Path, folder: Path) -> None:
    _copied(folder, tmp_path, ABORT)
    with pytest.raises(BadModel, match=f"{tmp_path}: was not loaded: lost its process, which ended by SIGABRT"):
        _load(tmp_path)


def test_a_model_that_takes_too_long_to_load_is_told_at_the_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _copied(folder, tmp_path, SLEEP)
    monkeypatch.setattr(isolated, "LOAD_SECONDS", 3.0)
    with pytest.raises(BadModel, match="was not loaded: did not answer within 3000 ms"):
        _load(tmp_path)


def test_a_model_that_nobody_has_any_more_leaves_no_process(tmp_path: Path) -> None:
    save_static(Linear({"amount": 1.0}), tmp_path, features=["amount"], version="1")
    static = Static(tmp_path, deadline_ms=DEADLINE_MS)
    pid = _pid(static)
    del static
    assert _is_gone(pid)


@pytest.mark.parametrize("end", ["killed", "by itself"])
def test_a_worker_that_ends_leaves_no_process_not_even_one_that_holds_its_interpreter(end: str, folder: Path) -> None:
    program = textwrap.dedent(f"""
        import sys, threading, time
        sys.path.insert(0, {str(folder.parent)!r})
        import numpy as np
        from headrace import Static
        static = Static({str(folder)!r}, deadline_ms=60_000)
        ask = lambda: static.score({{"amount": np.array([{SPIN}])}})
        threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.5)
        print(static._model._child._process.pid, flush=True)
        time.sleep({0 if end == "by itself" else 600})
    """)
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    if end == "killed":
        worker.kill()
    worker.wait()
    assert _is_gone(pid)


def test_signals_of_the_terminal_are_for_the_worker(shared: Static) -> None:
    pid = _pid(shared)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert _score(shared, 4.0) == [8.0]
    assert _pid(shared) == pid
