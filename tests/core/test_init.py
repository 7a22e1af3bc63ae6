"""What ``headrace init`` makes; that it runs from an installed wheel is in tests/golden/test_wheel.py."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from headrace.schemas.config import configure, from_toml
from headrace.schemas.errors import BadFile
from headrace.stream import commands, init
from headrace.stream.load import load_pipeline


@pytest.mark.parametrize("template", init.TEMPLATES)
def test_a_project_has_a_pipeline_of_its_name_whose_tests_pass(template: str, tmp_path: Path) -> None:
    folder = tmp_path / f"my-{template}"
    assert init.main(str(folder), template=template) == 0
    pipeline = load_pipeline(str(folder))
    assert pipeline.name == folder.name
    values = (folder / "events.jsonl").read_bytes().splitlines()
    assert len(msgspec.json.decode(b"[" + b",".join(values) + b"]", type=list[pipeline.events])) == init.EVENT_COUNT
    assert configure(from_toml((folder / "headrace.toml").read_text(), "")).group == folder.name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_project_is_the_same_every_time() -> None:
    chosen = init.TEMPLATES["fraud"]
    assert init.contents("a", "fraud", chosen) == init.contents("a", "fraud", chosen)


def test_the_templates_of_the_command_are_those_there_are() -> None:
    assert tuple(init.TEMPLATES) == commands.TEMPLATES


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(BadFile, match="is there already, and not empty; nothing was written"):
        init.main(str(tmp_path / "taken"), template="fraud")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["-x", "a b", "ü/ß?", ""])
def test_a_name_that_names_no_group_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFile, match="a project's name begins with"):
        init.main(name, template="fraud")
    assert list(tmp_path.iterdir()) == []
