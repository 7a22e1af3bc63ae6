"""docs/topics.md and docs/asyncapi.json are of today's code; ``python tests/docs/test_topics_page.py`` writes both."""

import json
import re
from pathlib import Path

from headrace.schemas.config import configure
from headrace.stream import asyncapi
from headrace.stream.load import load_pipeline

ROOT = Path(__file__).resolve().parents[2]
PAGE, DOCUMENT = ROOT / "docs/topics.md", ROOT / "docs/asyncapi.json"


def written(text: str) -> str:
    """Return the page with its table as the code has it now."""
    rows = "| Topic | | Key | What it is |\n| --- | --- | --- | --- |\n"
    for one in asyncapi.channels(load_pipeline(str(ROOT / "examples/fraud")), configure()):
        what = one.what.partition("\n\n")[0].replace("\n", " ")
        rows += f"| `{one.topic}` | {one.action}s | {one.key.rstrip('.')} | {what} |\n"
    between = r"(<!-- channels -->\n).*?(<!-- end of channels -->\n)"
    text, count = re.subn(between, lambda found: found[1] + rows + found[2], text, flags=re.DOTALL)
    assert count == 1, f"{PAGE.name} needs the marks <!-- channels --> and <!-- end of channels -->, once"
    return text


def document() -> str:
    """Return what ``headrace schema asyncapi examples/fraud`` prints."""
    made = asyncapi.document(load_pipeline(str(ROOT / "examples/fraud")), configure())
    return json.dumps(made, indent=2) + "\n"


def test_the_table_of_topics_is_that_of_the_code() -> None:
    text = PAGE.read_text()
    assert written(text) == text, "run: python tests/docs/test_topics_page.py"


def test_the_document_is_that_of_the_code() -> None:
    assert DOCUMENT.read_text() == document(), "run: python tests/docs/test_topics_page.py"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    DOCUMENT.write_text(document())
