"""docs/metrics.md has every metric, and no other. ``python tests/docs/test_metrics_page.py`` writes it anew."""

from pathlib import Path

from headrace.schemas.metrics import LABELS, METRICS

PAGE = Path(__file__).resolve().parents[2] / "docs/metrics.md"
HEAD = """# Metrics

A worker serves these on `/metrics`, beside its health pages ([Running](running.md#metrics)), in Prometheus' text
format. What each alert means and what to do about it is in [operations](operations.md). This page is written from
`schemas/metrics.py`; `python tests/docs/test_metrics_page.py` writes it anew.

Counters of predictions, dead letters and labels move when readers have those: exactly once, with the commit. Counters
of what went into steps move when a step is done, and a step that is done again after an abort is counted again.
What can be counted is there at zero from the beginning.
"""


def written() -> str:
    """Return the page as the code has it now."""
    lines = [HEAD, "## Names", "", "| Metric | Kind | Unit | Labels | What it is |", "| --- | --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{name}` | {metric.kind} | {metric.unit} | {labels} | {metric.text} |")
    lines += ["", "## Labels", "", "Each is bounded: no label is a key, an id or an offset.", ""]
    lines += ["| Label | What it is | Bounded by | Values |", "| --- | --- | --- | --- |"]
    for name, label in LABELS.items():
        values = ", ".join(f"`{value}`" for value in label.values)
        lines.append(f"| `{name}` | {label.text} | {label.bounded_by} | {values} |")
    lines += ["", "## Buckets", "", "The upper bounds of histograms; above the last there is `+Inf`.", ""]
    lines += ["| Metric | Bounds |", "| --- | --- |"]
    lines += [f"| `{name}` | {', '.join(map(_bound, one.buckets))} |" for name, one in METRICS.items() if one.buckets]
    return "\n".join(lines) + "\n"


def _bound(value: float) -> str:
    return f"{value:,.5f}".rstrip("0").rstrip(".")


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text() == written(), "run: python tests/docs/test_metrics_page.py"


if __name__ == "__main__":
    PAGE.write_text(written())
