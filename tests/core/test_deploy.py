"""What is deployed beside a worker speaks of metrics that there are, and every alert fires when it should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.tools import tool

from headrace.schemas.metrics import METRICS, series

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
TESTS = ROOT / "deploy/prometheus/rules_test.yml"
DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
ROWS = ["Traffic", "Latency", "Lag", "Model quality", "Drift", "State"]
LABELS_OF = {one: {*METRICS[name].labels, "job", "instance", "le"} for name in METRICS for one in series(name)}
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*", "$measure": "log_loss", "$model": "static"}


def _dashboard(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def _expressions(path: Path) -> Iterator[tuple[str, str]]:
    dashboard = _dashboard(path)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def _problems(expression: str) -> list[str]:
    """Return the names and labels in an expression that no worker has."""
    found = []
    named = set(re.findall(r"\bheadrace_\w+", expression))
    found += [f"{one} is no metric" for one in named if one not in LABELS_OF]
    allowed = set().union(*(LABELS_OF.get(one, set()) for one in named))
    for one, selector in re.findall(r"\b(headrace_\w+)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector):
            if label not in LABELS_OF.get(one, set()):
                found.append(f"{one} has no label {label}")
    for listed in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression):
        found += [f"nothing has a label {label}" for label in re.findall(r"\w+", listed) if label not in allowed]
    return found if named else ["it is about nothing of ours"]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return Prometheus' own tool. Without it its tests are skipped, and on CI they fail."""
    return tool("promtool", "it checks alert rules: install the package prometheus")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_rules_and_dashboards() -> None:
    # A check that looks at nothing also passes.
    assert len(ALERTS) > 10
    assert DASHBOARDS
    assert all(len(list(_expressions(path))) > 20 for path in DASHBOARDS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_the_matter_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert _problems(alert["expr"]) == []
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert all(text.endswith(".") for name, text in alert["annotations"].items() if name != "runbook_url")
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    assert re.search(rf"^### {alert['alert']}$", (ROOT / page).read_text(), flags=re.MULTILINE), "it has no runbook"


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tested = {name: (set(), set()) for name in (alert["alert"] for alert in ALERTS)}
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for one in test["alert_rule_test"]:
            tested[one["alertname"]][bool(one["exp_alerts"])].add(one["eval_time"])
        named = {given["series"].split("{")[0] for given in test["input_series"]}
        assert named <= set(LABELS_OF)
    assert not [name for name, (quiet, fires) in tested.items() if not (quiet and fires)]


def test_the_runbook_has_no_alert_that_there_is_not() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    assert re.findall(r"^### (Headrace\w+)$", page, flags=re.MULTILINE) == [alert["alert"] for alert in ALERTS]


def test_alert_rules_parse_and_fire_as_they_should(promtool: str) -> None:
    _run(promtool, "check", "rules", str(RULES))
    _run(promtool, "test", "rules", str(TESTS))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_shows_metrics_that_there_are(path: Path) -> None:
    assert {told: problems for told, one in _expressions(path) if (problems := _problems(one))} == {}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_expression_of_a_dashboard_parses(path: Path, promtool: str, tmp_path: Path) -> None:
    rules = []
    for number, (_, expression) in enumerate(_expressions(path)):
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)  # noqa: PLW2901
        assert "$" not in expression
        rules.append({"record": f"dashboard:{number}", "expr": expression})
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # which YAML is, too
    _run(promtool, "check", "rules", str(file))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_anywhere_and_again(path: Path) -> None:
    dashboard = _dashboard(path)
    assert re.fullmatch(r"headrace-[a-z-]+", dashboard["uid"]), "links lead to it by this"
    assert "id" not in dashboard
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    told = {"type": "prometheus", "uid": "${datasource}"}
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for asked in (
        *panels,
        *(target for panel in panels for target in panel["targets"]),
        *dashboard["annotations"]["list"],
    ):
        assert asked["datasource"] == told
    assert all(one["datasource"] == told for one in variables.values() if one["type"] == "query")
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == ROWS
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    places = [{(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
              for p in (panel["gridPos"] for panel in dashboard["panels"])]  # fmt: skip
    assert sum(map(len, places)) == len(set().union(*places)), "panels lie on top of each other"
    assert max(x for x, _ in set().union(*places)) < 24


def test_every_metric_but_a_few_is_on_a_dashboard_or_in_a_rule() -> None:
    shown = " ".join(
        [one for path in DASHBOARDS for _, one in _expressions(path)] + [alert["expr"] for alert in ALERTS]
    )
    hidden = {name for name in METRICS if not any(re.search(rf"\b{one}\b", shown) for one in series(name))}
    assert hidden == {"headrace_events_scored_total", "headrace_events_rejected_total"}, (
        "predictions and letters tell it"
    )
