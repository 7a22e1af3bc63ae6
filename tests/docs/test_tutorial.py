"""The tutorial is walked through as it is written: its files are saved, its commands are run in one folder, in order.

The broker is the embedded one. What takes long is left out in the short form, which names what shows it instead; all of
it is walked through with ``HEADRACE_FAULTS=full``. That every command exists, and that the blocks of Python run, is
tested with those of all pages.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.stream.broker import EmbeddedBroker

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ELSEWHERE = "terminal"  # the comment that such a block begins with
SECONDS_MAX = 120.0
# What is never run, and why.
NEVER = {
    "python3 -m venv": "the tests run in one",
    "source ": "the same",
    "pip install": "it is installed",
    "python -m headrace.stream.broker": "an embedded one answers",
}
# What the short form leaves out, and what shows it in every run.
LONG = {
    "make test": "tests/core/test_init.py",
    "headrace demo": "README.md",
    "headrace doctor": "docs/cli.md",
    "headrace explain": "tests/broker/test_explain.py",
    "headrace alerts ls": "there is none before five weeks of payments",
    "python read.py alerts": "the same",
    "python read.py outcomes": "there is none before a week of payments",
    "headrace drift report": "tests/core/test_report.py",
}
COUNT_SHORT = 3_000  # records, where the page says 45000


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    with EmbeddedBroker() as broker:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
            "HEADRACE_BROKER": broker.address,
            "HEADRACE_GUARANTEE": "at-least-once",  # which is all that this broker has
            "HEADRACE_STATE_DIR": str(tmp_path / "state"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }


def _lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def _said(command: str, folder: Path, env: dict[str, str]) -> str:
    """Run a command until it says something, where it reads what is on its way."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        warned = command.startswith("headrace doctor") and done.returncode == 1  # topics are not there yet
        assert done.returncode == 0 or warned, f"$ {command}\n{done.stdout}{done.stderr}"
        waits = command.startswith(("python read.py", "headrace alerts ls")) and not done.stdout.strip()
        if not waits:
            return done.stdout
        assert time.monotonic() < deadline, f"$ {command}\nsaid nothing"
        time.sleep(0.3)


def _until_ready(worker: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until a worker is ready, and return where its page is."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := re.search(r"ready: .* page on (http://[^\s\"]+)", log.read_text())):
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]


def test_the_tutorial_is_walked_through_in_order(tmp_path: Path, env: dict[str, str], form) -> None:
    folder, said, pages = tmp_path, {}, []
    workers: list[subprocess.Popen[bytes]] = []
    left_out = {**NEVER, **({} if form.full else LONG)}
    try:
        for block in FENCED.finditer((ROOT / "docs/tutorial.md").read_text()):
            text = block["text"]
            if block["kind"] == "python" and (named := re.match(r"# (\w+\.py)\n", text)):
                (folder / named[1]).write_text(text)
            if block["kind"] != "sh":
                continue
            for line in _lines(text):
                if line.startswith(tuple(left_out)):
                    continue
                if line.startswith("cd "):
                    folder /= line.removeprefix("cd ")
                elif ELSEWHERE in text.splitlines()[0]:
                    log = tmp_path / f"worker-{len(workers)}.log"
                    with log.open("wb") as told:
                        workers.append(subprocess.Popen(line.split(), cwd=folder, env=env, stderr=told))
                    pages.append(_until_ready(workers[-1], log))
                else:
                    command = line if form.full else line.replace("45000", str(COUNT_SHORT))
                    said[line] = _said(command, folder, env)
        with urllib.request.urlopen(pages[0], timeout=30) as page:
            assert b"<title>" in page.read()
        for worker in workers:
            worker.terminate()
            assert worker.wait(SECONDS_MAX) == 0
    finally:
        for worker in workers:
            worker.kill()
    assert len(workers) == 1
    assert (folder / "scores.jsonl").read_text().count('"score"') == 200
    made = said["python read.py predictions 2"].splitlines()
    assert len(made) == 2
    assert all('"reasons":[{' in one for one in made)
    if form.full:
        assert "computed again it is the same, bit for bit" in said["headrace explain . t-3-17"]
        assert "round_amount moved up" in said["headrace alerts ls"]
        assert '"state":"raised"' in said["python read.py alerts 1"]
        assert (folder / "moved.html").is_file()


def test_what_is_left_out_is_on_the_page() -> None:
    lines = [
        line for block in FENCED.finditer((ROOT / "docs/tutorial.md").read_text()) for line in _lines(block["text"])
    ]
    for start in (*NEVER, *LONG):
        assert any(line.startswith(start) for line in lines), f"{start}: the tutorial has it no more"


def test_the_producer_of_the_page_plays_a_world_that_changes() -> None:
    # Before the change features have to have warmed up, and after it there has to be time to notice.
    from headrace.stream.shows import fraud

    records = [record for _, record in zip(range(45_000), fraud(42_000).records, strict=False)]
    first, last, change = records[0][1]["at"], records[-1][1]["at"], fraud(42_000).changes_at
    assert change - first > 32 * 86_400
    assert last - change > 2 * 86_400
    assert {topic for topic, _ in records} == {"transactions", "labels"}
