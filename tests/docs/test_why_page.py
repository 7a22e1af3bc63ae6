"""docs/why.md tells no number that was not measured: each has its command, and the page on which it is told."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/why.md"
ROW = re.compile(
    r"^\| (?P<what>.+?) \| (?P<number>[^|]*\d[^|]*|five million) \| (?P<command>.+?) \| \[.*\]\((?P<to>[^)#]+)"
)
SAME = "the same"


def _rows() -> list[re.Match[str]]:
    return [found for line in PAGE.read_text().splitlines() if (found := ROW.match(line))]


def test_every_number_is_on_the_page_that_tells_of_it() -> None:
    rows = _rows()
    assert len(rows) > 12
    for row in rows:
        told = " ".join((PAGE.parent / row["to"]).read_text().split())
        assert re.search(rf"(?<![\d.,]){re.escape(row['number'])}(?!\d)", told), f"{row['number']}: not in {row['to']}"


def test_every_number_has_the_command_that_shows_it() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    rows = _rows()
    assert rows[0]["command"] != SAME
    for row in rows:
        if row["command"] == SAME:
            continue
        program, argument, *_ = row["command"].strip("`").split()
        exists = argument in targets if program == "make" else program == "python" and (ROOT / argument).is_file()
        assert exists, f"{row['command']}: there is no such thing"


def test_no_number_of_the_table_is_without_a_command() -> None:
    table = PAGE.read_text().partition("| What | Number |")[2].partition("\n\n")[0]
    assert len(table.splitlines()) - 2 == len(_rows())
