"""Every example on a page runs, so that no page promises what the code does not do.

What a block's first word says about it:

``python``   is executed. With ``>>>`` it is a doctest; without, it only has to run. The blocks of one page
             share their names, from top to bottom. One that begins with ``# name.py`` is a file that the reader
             saves, and that the ``sh`` blocks after it may run.
``console``  each line that begins with ``$ `` is run in a shell at the root of the repository, must end with
             0 and must print what follows it, where ``...`` stands for anything. Where nothing follows, it
             may print what it likes.
``sh``       is not run, but every command in it must exist: targets of ``make``, subcommands and options of
             ``headrace``, modules and files that Python is told to run.

Anything else (``text``, ``toml``, ``json``, ``mermaid``) is for reading.
"""

import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RUN_SECONDS_MAX = 120
# Commands of `sh` blocks that are not ours, so nothing about them is checked.
FOREIGN = {"cat", "cd", "curl", "docker", "echo", "export", "faust", "git", "kcat", "kill", "source"}


class Block(NamedTuple):
    """A fenced block of a page, with the line that it begins at."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fenced = r"^(?P<fence>```+)(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ ]*$"
    fences = re.finditer(fenced, text, flags=re.MULTILINE | re.DOTALL)
    return [Block(page, text[: f.start("text")].count("\n") + 1, f["kind"], f["text"]) for f in fences]


BLOCKS = [block for page in PAGES for block in _blocks(page)]
WITH_PYTHON = sorted({block.page for block in BLOCKS if block.kind == "python"})
# Blocks that the reader saves as the file that their first line names.
SAVED = {found[1] for block in BLOCKS if block.kind == "python" and (found := re.match(r"# (\w+\.py)\n", block.text))}


def _of(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def test_pages_are_found() -> None:
    # A runner that finds nothing also passes.
    assert ROOT / "README.md" in PAGES
    assert _of("sh"), "README.md shows at least how to start"


def test_blocks_say_what_they_are() -> None:
    assert not [str(block) for block in BLOCKS if not block.kind]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {"__name__": f"page_{page.stem}"}
    if page.name == "README.md":  # which shows an example as it is: what lies beside that is found there
        names["__file__"] = str(ROOT / "examples/fraud/pipeline.py")
    for block in BLOCKS:
        if block.page != page or block.kind != "python":
            continue
        if ">>>" in block.text:
            run_doctest(block, names)
        else:
            # The padding makes the line numbers of a traceback those of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def run_doctest(block: Block, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, str(block), str(block.page), block.line - 1)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=told.append, clear_globs=False)
    names.update(test.globs)
    assert not told, "".join(told)


@pytest.mark.parametrize("block", _of("console"), ids=str)
def test_console_on_a_page_prints_what_it_shows(block: Block) -> None:
    for command, shown in commands_with_output(block.text):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{block}: $ {command}\n{done.stdout}"
        if shown.strip():
            same = doctest.OutputChecker().check_output(shown, done.stdout, FLAGS)
            assert same, f"{block}: $ {command}\nprinted:\n{done.stdout}\nand the page shows:\n{shown}"


def commands_with_output(text: str) -> list[tuple[str, str]]:
    r"""Cut a console block into its commands, each with the lines shown under it.

    >>> commands_with_output("$ headrace \\\n    --version\nheadrace 0.1.0\n$ true\n")
    [('headrace \\\n    --version', 'headrace 0.1.0\n'), ('true', '')]
    """
    cut = r"^\$ (?P<command>(?:.*\\\n)*.*)\n?(?P<shown>(?:(?!\$ ).*\n?)*)"
    found = re.finditer(cut, text, flags=re.MULTILINE)
    return [(match["command"], match["shown"]) for match in found]


@pytest.mark.parametrize("block", _of("sh"), ids=str)
def test_commands_on_a_page_exist(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        for words in simple_commands(line):
            if problem := wrong_with(words):
                pytest.fail(f"{block}: {shlex.join(words)}: {problem}")


def simple_commands(line: str) -> list[list[str]]:
    """Cut a line at the shell's operators; assignments before a command and comments are left out.

    >>> simple_commands("FOO=1 make demo && headrace run x.py  # twice")
    [['make', 'demo'], ['headrace', 'run', 'x.py']]
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            found.append([])
        elif found[-1] or not re.match(r"[A-Za-z_]\w*=", word):
            found[-1].append(word)
    return [words for words in found if words]


def wrong_with(words: list[str]) -> str:
    """Say what about a command does not exist, or nothing.

    >>> wrong_with(["make", "demo"])
    ''
    >>> wrong_with(["make", "coffee"])
    'the Makefile has no target coffee'
    """
    command, *arguments = words
    command = command.removeprefix(".venv/bin/")
    if command == "make":
        targets = [word for word in arguments if not word.startswith("-") and "=" not in word]
        unknown = [word for word in targets if word not in _targets()]
        return f"the Makefile has no target {unknown[0]}" if unknown else ""
    if command == "headrace":
        return _wrong_with_headrace(arguments)
    if command in {"python", "python3"}:
        return _wrong_with_python(arguments)
    if command in {"pip", "ruff", "mypy", "pytest", "lint-imports"} or command in FOREIGN:
        return ""
    if (ROOT / command).is_file() and os.access(ROOT / command, os.X_OK):
        return ""
    return "not a command that a page may use without a word in tests/docs/test_docs_run.py"


def _wrong_with_headrace(arguments: list[str]) -> str:
    subcommand = [word for word in arguments[:1] if not word.startswith("-")]
    text = _help_of(*subcommand)
    if text is None:
        return f"headrace has no subcommand {subcommand[0]}"
    if "\npositional arguments:\n  WHAT" in text and len(arguments) > 1:  # a command of several
        subcommand = arguments[:2]
        text = _help_of(*subcommand)
        if text is None:
            return f"headrace has no subcommand {' '.join(subcommand)}"
    options = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)]
    missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]
    return f"headrace {' '.join(subcommand)} --help does not name {missing[0]}" if missing else ""


def _wrong_with_python(arguments: list[str]) -> str:
    match arguments:
        case ["-m", module, *_]:
            ours = ROOT / module.replace(".", "/")
            if ours.with_suffix(".py").is_file() or (ours / "__main__.py").is_file():
                return ""
            package = module.partition(".")[0]
            known = not (ROOT / package).is_dir() and importlib.util.find_spec(package)
            if known and (package != "headrace" or importlib.util.find_spec(module)):
                return ""
            return f"there is no module {module}"
        case [script, *_] if script.endswith(".py"):
            return "" if (ROOT / script).is_file() or script in SAVED else f"there is no file {script}"
    return ""


@cache
def _targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@cache
def _help_of(*subcommand: str) -> str | None:
    command = [sys.executable, "-m", "headrace.stream.cli", *subcommand, "--help"]
    # From elsewhere, so that the packages' folders are not importable under their bare names.
    done = subprocess.run(command, cwd=ROOT / "docs", capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("block", [*_of("json"), *_of("toml")], ids=str)
def test_data_on_a_page_can_be_read(block: Block) -> None:
    if block.kind == "json":
        for line in [block.text] if block.text.startswith(("{\n", "[\n")) else block.text.splitlines():
            json.loads(line)
    else:
        tomllib.loads(block.text)


def test_targets_that_make_lists_are_all_described() -> None:
    text = (ROOT / "Makefile").read_text()
    described = re.findall(r"^([a-z-]+):.*## \S", text, flags=re.MULTILINE)
    assert sorted(described) == sorted(_targets())
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert sorted(phony.split()) == sorted(described)
