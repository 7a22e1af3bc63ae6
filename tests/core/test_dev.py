"""What ``headrace dev`` watches, and that a worker begins anew, whatever is wrong with what was saved."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.schemas.errors import BadPipeline
from headrace.stream import init
from headrace.stream.dev import Watch, libraries, sources, where

SECONDS_MAX = 60


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _there(folder: Path, path: str) -> list[str]:
    found = sources(folder / path, folder)
    return sorted(str(one.relative_to(folder)) for one in found if one.exists())


def test_what_a_pipeline_imports_from_its_folder_is_found_however_it_is_written(tmp_path: Path) -> None:
    _write(
        tmp_path,
        pipeline="import json, features\nfrom cards import speed\nimport river.stats\n",
        features="from cards.deep import *\n",
        cards__deep="from . import other\nfrom .speed import x\nfrom ..cards import twice\n",
        cards__other="import features\n",
        cards__speed="import (",
        cards__twice="",
        json="this is not what json is",
        unused="",
    )
    (tmp_path / "cards" / "__init__.py").write_text("")
    want = ["cards/__init__.py", "cards/deep.py", "cards/other.py", "cards/speed.py", "cards/twice.py", "features.py"]
    assert _there(tmp_path, "pipeline.py") == [*want, "pipeline.py"]
    assert libraries(tmp_path / "pipeline.py", tmp_path) == {"river.stats"}


def test_a_change_is_told_once_when_nobody_is_at_it_any_more(tmp_path: Path) -> None:
    _write(tmp_path, pipeline="import late\n", unused="")
    (tmp_path / "model").mkdir()
    watch = Watch(tmp_path / "pipeline.py", tmp_path, [tmp_path / "headrace.toml", tmp_path / "model"])
    assert watch.changed() == set()
    (tmp_path / "unused.py").write_text("x = 1")
    assert watch.changed() == watch.changed() == set()
    for name in ("late.py", "headrace.toml", "model/weights", "pipeline.py"):
        (tmp_path / name).write_text("import late\n")
        os.utime(tmp_path / name, ns=(1, time.time_ns()))
        assert watch.changed() == set(), "it may not be whole"
        assert watch.changed() == {tmp_path / name}
        assert watch.changed() == set()
    (tmp_path / "late.py").unlink()
    watch.changed()
    assert watch.changed() == {tmp_path / "late.py"}


def test_a_pipeline_is_a_file_a_folder_or_a_module_as_for_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, pipeline="")
    assert where(str(tmp_path)) == where(str(tmp_path / "pipeline.py")) == (tmp_path / "pipeline.py", tmp_path)
    path, root = where("headrace.examples.fraud.pipeline")
    assert path == root / "examples/fraud/pipeline.py"
    with pytest.raises(BadPipeline, match=r"nowhere\.py: no such file, folder with a pipeline\.py, or module"):
        where("nowhere.py")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.py").unlink()
    for name in (".", ".pipeline"):
        with pytest.raises(
            BadPipeline, match=rf"{re.escape(name)}: no such file, folder with a pipeline\.py, or module"
        ):
            where(name)


def test_a_worker_begins_anew_and_what_cannot_run_is_told_and_waited_out(tmp_path: Path) -> None:
    folder, log = tmp_path / "cards", tmp_path / "log"
    init.main(str(folder), template="fraud")
    (folder / "headrace.toml").unlink()
    pipeline = folder / "pipeline.py"
    pipeline.write_text(f"import limits\n{pipeline.read_text()}")
    (folder / "limits.py").write_text("HIGH = 1\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ = {**inherited, "HEADRACE_STATE_DIR": str(tmp_path / "state"), "HEADRACE_DRAIN_TIMEOUT_MS": "10000"}
    command = [sys.executable, "-m", "headrace.stream.cli", "dev", "."]

    def children() -> list[int]:
        return [int(one) for one in Path(f"/proc/{dev.pid}/task/{dev.pid}/children").read_text().split()]

    def wait(*, count: int, of: str) -> str:
        deadline = time.monotonic() + SECONDS_MAX
        while len(re.findall(of, said := log.read_text())) < count:
            assert dev.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        return said

    with log.open("w") as out, subprocess.Popen(command, cwd=folder, env=environ, stderr=out) as dev:
        try:
            first = wait(count=1, of="ready: cards scores transactions at-least-once as")
            workers = children()
            (folder / "limits.py").write_text("HIGH = 1\nLOW = HIGH / 0\n")
            said = wait(count=1, of="the next change begins it anew")
            assert "dev: limits.py changed: the worker stops, and begins anew where it was" in said
            assert "stopped: 0 events scored" in said
            assert f"{folder / 'limits.py'}:2: ZeroDivisionError: division by zero" in said
            assert "Traceback" not in said
            assert "dev: the worker has ended with 2, as it says above" in said
            (folder / "limits.py").write_text("HIGH = 2\n")
            said = wait(count=2, of="ready: cards scores")
            page = r"http://127\.0\.0\.1:\d+"
            assert set(re.findall(page, said)) == set(re.findall(page, first)), "the page stays where it is"
            workers += children()
            dev.send_signal(signal.SIGINT)
            assert dev.wait(SECONDS_MAX) == 0
        finally:
            dev.kill()
    assert log.read_text().endswith("dev: ended\n")
    assert len(workers) >= 2
    assert not [one for one in workers if Path(f"/proc/{one}").exists()]
