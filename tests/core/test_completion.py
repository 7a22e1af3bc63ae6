"""What a shell completes, and how soon the command line says what it takes."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.stream import cli
from headrace.stream.commands import SHELLS
from headrace.stream.completion import commands, main

EVERY = list(commands(cli._parser()))
HELP_SECONDS_MAX = 0.3
ROUNDS = 5


def test_every_command_and_option_is_found() -> None:
    words = {" ".join(one.words): one.follow for one in EVERY}
    assert {"run", "doctor", "dlq", "dlq ls", "dlq retry", "topics apply", "schema check", "completion"} <= set(words)
    assert {"run", "doctor", "--version", "--help"} <= set(words[""])
    assert {"--dry-run", "--set", "--broker"} <= set(words["run"])
    assert {"show", "schema", "list", "--json"} <= set(words["config"])
    assert {"--reason", "--limit"} <= set(words["dlq retry"])
    assert set(SHELLS) <= set(words["completion"])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(cli._parser(), shell)
    script = capsys.readouterr().out
    for one in EVERY:
        for name in one.follow:
            assert name.removeprefix("--") in script


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_its_shell_can_read(shell: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    with path.open("w") as script:
        command = [sys.executable, "-m", "headrace.stream.cli", "completion", shell]
        subprocess.run(command, stdout=script, check=True)
    # Where a shell is not installed, what it would be given is looked at above.
    reader = shutil.which(shell) or shutil.which("bash")
    assert reader is not None
    if shell == "fish" and not reader.endswith("fish"):
        assert all(line.startswith(("complete -c headrace", "#")) for line in path.read_text().splitlines())
        return
    done = subprocess.run([reader, "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        (["d"], {"demo", "dev", "dlq", "doctor", "drift"}),
        (["run", "--dr"], {"--dry-run"}),
        (["dlq", ""], {"ls", "show", "retry", "--help"}),
        (["dlq", "retry", "fraud.py", "--rea"], {"--reason"}),
        (["config", "s"], {"show", "schema"}),
        (["init", "shop", "--template", "cl"], {"clicks.txt"}),
    ],
    ids=lambda words: " ".join(words if isinstance(words, list) else sorted(words)),
)
def test_bash_completes(typed: list[str], want: set[str], tmp_path: Path) -> None:
    (tmp_path / "clicks.txt").write_text("")  # what is no word of the command's is a file
    words = " ".join(f"'{word}'" for word in ["headrace", *typed])
    script = subprocess.run(
        [sys.executable, "-m", "headrace.stream.cli", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    script += f"\nCOMP_WORDS=({words}); COMP_CWORD={len(typed)}; _headrace; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == want, done.stderr


def _seconds(*arguments: str) -> float:
    """How long a command keeps a processor, which a busy machine lengthens less than the time on the wall."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_comes_at_once_beside_an_interpreter_that_does_nothing() -> None:
    pairs = [(_seconds("-c", "pass"), _seconds("-m", "headrace.stream.cli", "run", "--help")) for _ in range(ROUNDS)]
    nothing, help_ = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert help_ - nothing < HELP_SECONDS_MAX, f"{help_:.2f} s, and {nothing:.2f} s for nothing"


def test_help_of_no_command_loads_anything_heavy() -> None:
    code = f"""
import io, sys, contextlib
from headrace.stream import cli
for words in {[list(one.words) for one in EVERY]!r}:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    assert "usage: headrace" in shown.getvalue(), words
print(sorted({{"confluent_kafka", "faust", "numpy", "river", "scipy", "asyncio"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("set_to", "colours"), [(None, True), ("1", False)])
def test_colours_are_for_a_terminal_and_not_where_somebody_wants_none(set_to: str | None, colours: bool) -> None:
    import pty

    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ |= {"TERM": "xterm"} | ({"NO_COLOR": set_to} if set_to else {})
    environ.pop("NO_COLOR", None) if set_to is None else None
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "headrace.stream.cli", "doctor", "nowhere", "--broker", "127.0.0.1:9"]
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, env=environ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                some = os.read(master, 4_096)
            except OSError:
                break
            if not some:
                break
            shown += some
        process.wait()
    os.close(master)
    assert b"pipeline-file" in shown
    assert (b"\x1b[31m" in shown) is colours
