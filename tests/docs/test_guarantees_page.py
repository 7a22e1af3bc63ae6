"""docs/guarantees.md names the test of each promise, and every one of them is there and runs."""

import ast
import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/guarantees.md"
NAMED = re.compile(r"\[(?P<stem>\w+): (?P<words>[\w ]+)\]\((?P<to>\.\./tests/[^)]+)\)")
UNTESTED = "no test on the broker"


@cache
def _tests(path: Path) -> frozenset[str]:
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))


def _rows() -> list[list[str]]:
    table = PAGE.read_text().partition("## Failure by failure")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:2] == "| "]
    return [row for row in rows if row[0] not in {"What fails", "---"}]


def _shown() -> dict[str, str]:
    """Return what is said of each failure, with its tests."""
    told = PAGE.read_text().partition("## What happens, and what shows it")[2]
    parts = re.split(r"^\*\*(.+?)\.\*\*", told, flags=re.MULTILINE | re.DOTALL)[1:]
    return {" ".join(name.split()): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_every_test_that_is_named_exists_where_the_link_goes() -> None:
    named = list(NAMED.finditer(PAGE.read_text()))
    assert len(named) > 50, "a check that looks at nothing also passes"
    for found in named:
        path = (PAGE.parent / found["to"]).resolve()
        name = "test_" + found["words"].replace(" ", "_")
        assert path.name == f"test_{found['stem']}.py", found[0]
        assert name in _tests(path), f"{found['to']} has no {name}"


def test_every_row_says_what_is_lost_doubled_and_late_and_has_a_test() -> None:
    rows, shown = _rows(), _shown()
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 5, row
        assert all(row), f"{row[0]}: a cell is empty"
        assert NAMED.search(shown.get(row[0], "")), f"{row[0]}: say what happens, and name the test that shows it"
    assert list(shown) == [row[0] for row in rows], "the same failures, in the same order"


def test_a_failure_without_a_test_on_the_broker_says_so() -> None:
    # Of these the claim is about what is computed, and the broker has no part in it.
    computed = {"A dead letter too large for its topic", "Labels that are wrong on purpose"}
    for name, text in _shown().items():
        assert "/broker/" in text or UNTESTED in text.lower() or name in computed, name


def test_no_link_to_a_test_is_without_its_name() -> None:
    text = PAGE.read_text()
    assert len(re.findall(r"\]\(\.\./tests/", text)) == len(NAMED.findall(text))
