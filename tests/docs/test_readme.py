"""The first page shows what there is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_pipeline_on_the_first_page_is_the_example_as_it_is() -> None:
    pipeline = (ROOT / "examples/fraud/pipeline.py").read_text()
    assert f"```python\n{pipeline}```\n" in (ROOT / "README.md").read_text(), "copy the file into README.md again"
