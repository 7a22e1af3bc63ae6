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
    table = PAGE.read_text().partition("## Failure by failure")[2]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:2] == "| "]
    return [row for row in rows if row[0] not in {"What fails", "---"}]


def test_every_test_that_is_named_exists_where_the_link_goes() -> None:
    named = list(NAMED.finditer(PAGE.read_text()))
    assert len(named) > 50, "a check that looks at nothing also passes"
    for found in named:
        path = (PAGE.parent / found["to"]).resolve()
        name = "test_" + found["words"].replace(" ", "_")
        assert path.name == f"test_{found['stem']}.py", found[0]
        assert name in _tests(path), f"{found['to']} has no {name}"


def test_every_row_says_what_is_lost_doubled_and_late_and_names_a_test() -> None:
    rows = _rows()
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 7, row
        assert all(row), f"{row[0]}: a cell is empty"
        assert NAMED.search(row[-1]), f"{row[0]}: name the test that shows it"


def test_a_row_without_a_test_on_the_broker_says_so() -> None:
    # Of these the claim is about what is computed, and the broker has no part in it.
    computed = {"A dead letter too large for its topic", "Labels that are wrong on purpose"}
    for row in _rows():
        assert "/broker/" in row[-1] or UNTESTED in row[-1] or row[0] in computed, row[0]


def test_no_link_to_a_test_is_without_its_name() -> None:
    text = PAGE.read_text()
    assert len(re.findall(r"\]\(\.\./tests/", text)) == len(NAMED.findall(text))
