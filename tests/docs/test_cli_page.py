"""docs/cli.md has every command and every check. ``python tests/docs/test_cli_page.py`` writes its table anew."""

import argparse
import re
from pathlib import Path

from headrace.stream import cli
from headrace.stream.doctor import CHECKS

PAGE = Path(__file__).resolve().parents[2] / "docs/cli.md"


def written(text: str) -> str:
    """Return the page with its table as the code has it now."""
    rows = "".join(f"| `{name}` | {what} |\n" for name, what in CHECKS.items())
    table = f"| Check | It is well when |\n| --- | --- |\n{rows}"
    between = r"(<!-- checks -->\n).*?(<!-- end of checks -->\n)"
    text, count = re.subn(between, lambda found: found[1] + table + found[2], text, flags=re.DOTALL)
    assert count == 1, f"{PAGE.name} needs the marks <!-- checks --> and <!-- end of checks -->, once"
    return text


def test_the_table_of_checks_is_that_of_the_code() -> None:
    text = PAGE.read_text()
    assert written(text) == text, "run: python tests/docs/test_cli_page.py"


def test_every_command_is_on_the_page() -> None:
    (commands,) = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    rows = re.findall(r"^\| (`[^|]+`) \|", PAGE.read_text().partition("## ")[0], flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)", row)}
    assert set(commands.choices) - named == set(), "say in docs/cli.md what it is for"
    assert named - set(commands.choices) == set(), "docs/cli.md names a command that there is not"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
