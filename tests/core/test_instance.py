"""The name that a worker keeps: unique while it lives, free the moment it is dead."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from core.records import config_of, fraud

from headrace.schemas.errors import BadConfig
from headrace.stream.instance import Instance
from headrace.stream.run import run

HOLD = """
import sys, time
from pathlib import Path
from headrace.stream.instance import Instance
held = Instance(Path(sys.argv[1]), "cards")
print(held.slot, flush=True)
time.sleep(60)
"""


def _holder(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_two_processes_have_two_names_and_the_kernel_frees_that_of_the_killed(tmp_path: Path) -> None:
    first, slot = _holder(tmp_path)
    try:
        assert slot == 0
        mine = Instance(tmp_path, "cards")
        assert mine.slot == 1
        first.send_signal(signal.SIGKILL)
        first.wait()
        successor = Instance(tmp_path, "cards")
        assert successor.slot == 0
        mine.release()
        successor.release()
    finally:
        first.kill()
        first.wait()


def test_a_name_says_host_and_slot(tmp_path: Path) -> None:
    instance = Instance(tmp_path, "cards")
    assert instance.name == f"{socket.gethostname()}-0"
    instance.release()


def test_a_folder_in_which_no_file_can_be_made_is_told_before_anything_begins() -> None:
    with pytest.raises(BadConfig, match=r"state_dir = /dev/null/here: no file can be made there \(Not a directory\)"):
        run(fraud, config_of(state_dir="/dev/null/here"))


def test_a_full_disk_takes_no_name_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    first, second = Instance(tmp_path, "cards"), Instance(tmp_path, "cards")
    assert (first.slot, second.slot) == (0, 1)
    first.release()
    second.release()


def test_groups_do_not_share_names(tmp_path: Path) -> None:
    instances = [Instance(tmp_path, group) for group in ("cards", "loans")]
    assert [instance.slot for instance in instances] == [0, 0]
    for instance in instances:
        instance.release()


def test_a_group_with_a_slash_stays_in_the_folder(tmp_path: Path) -> None:
    Instance(tmp_path / "state", "../cards/x").release()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == [".._cards_x"]


def test_the_lock_says_who_holds_it_and_nobody_else_may_look(tmp_path: Path) -> None:
    instance = Instance(tmp_path, "cards")
    assert (tmp_path / "cards" / "instance-0.lock").read_text().strip().isdigit()
    assert (tmp_path / "cards").stat().st_mode & 0o077 == 0
    instance.release()


def test_a_name_that_was_released_is_taken_again(tmp_path: Path) -> None:
    for _ in range(3):
        instance = Instance(tmp_path, "cards")
        assert instance.slot == 0
        instance.release()
