"""The texts of errors, pinned: people search for them, and scripts read their first line.

After a text was changed on purpose: ``python tests/golden/test_errors.py`` writes them anew.
"""

import contextlib
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.records import fraud

from headrace import Event, Linear, Pipeline, Static, differs, feature, field, log1p, save_static
from headrace.schemas.config import Given, configure, from_environment, from_pairs, from_toml
from headrace.schemas.errors import HeadraceError
from headrace.schemas.position import Asked, Position
from headrace.stream.batch import score
from headrace.stream.files import format_of
from headrace.stream.slice import Log, cut

ERRORS = Path(__file__).with_name("errors")


def _config() -> None:
    configure(
        from_toml('commit_intervall_ms = 50\nbatch_count_max = 0\n[kafka]\nlinger.ms = "1"', "headrace.toml"),
        from_environment({"HEADRACE_WEB_PORT": "http", "HEADRACE_KAFKA_SASL_PASSWORD": "hunter2"}),
        from_pairs(["create_topics=perhaps", "log_level=loud", "xyzzy=1", "kafka.transactional.id=mine"]),
        {"guarantee": Given("at-most-once", "--guarantee")},
    )


def _config_relations() -> None:
    configure(
        from_pairs(
            [
                "commit_interval_ms=10000",
                "stall_red_ms=300000",
                "batch_count_max=10000",
                "topic_alerts=predictions",
                "kafka.sasl.password=hunter2",
            ]
        )
    )


def _pairs() -> None:
    configure(from_pairs(["group", "web_port=1", "kafka.sasl.password:hunter2", ""]))


def _toml() -> None:
    from_toml("group = cards", "headrace.toml")


def _pipeline() -> None:
    Pipeline(
        name="card fraud",
        events=fraud.events,
        features={
            "amount_log": log1p("amout"),
            "abroad": differs("country", "FR"),
            "plain": lambda amount: amount,  # type: ignore[dict-item]
            "colour": field("colour"),
        },
        static=Linear({"amount_log": 0.5, "abroad": float("nan"), "abrod": 1.0, "plain": 1.0}, bias=float("inf")),
    )


def _pipeline_of_nothing() -> None:
    class Loose(Event):
        id: str

    Pipeline(name="loose", events=Loose, features={}, static=Linear({}))


def _event() -> None:
    class Odd(Event, key="user", time="when"):
        id: float
        when: str


def _feature_of_no_field() -> None:
    @feature
    def night(att):
        return att

    Pipeline(name="night", events=fraud.events, features={"night": night}, static=Linear({"night": 1.0}))


def _file_format() -> None:
    format_of("payments.txt")


def _file_columns() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("payments.csv").write_text("id;at;card\n")
        score(fraud, "payments.csv", "predictions.jsonl")


def _file_exists() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("predictions.jsonl").touch()
        score(fraud, "payments.csv", "predictions.jsonl")


def _slice() -> None:
    logs = {0: Log(0, 100), 1: Log(40, 90)}
    cut(Asked("transactions", Position.parsed("95"), partitions=(1, 2)), logs, lambda _: {})


def _model(change: Callable[[Path, dict[str, Any]], None]) -> Callable[[], None]:
    def case() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            golden = {"amount": [0.0, 2.0], "night": [1.0, 0.0]}
            model = Linear({"amount": 0.5, "night": 0.25}, logistic=False)
            save_static(model, Path.cwd() / "model", features=["amount", "night"], version="1", golden=golden)
            manifest = Path("model/manifest.json")
            held = json.loads(manifest.read_text())
            change(Path("model") / held["file"], held)
            manifest.write_text(json.dumps(held))
            exec('Static("model")', {"Static": Static})  # where no file says it, the path is the working directory's

    return case


def _model_manifest(_: Path, held: dict[str, Any]) -> None:
    held.update(format=2, file="../model.json", features=[{"name": "night"}] * 2)


def _model_changed(file: Path, _: dict[str, Any]) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _model_scores(file: Path, held: dict[str, Any]) -> None:
    file.write_text(file.read_text().replace("0.5", "0.75"))
    held["sha256"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}


def _model_features(_: Path, held: dict[str, Any]) -> None:
    held.update(features=held["features"][::-1])


CASES: dict[str, Callable[[], None]] = {
    "config": _config,
    "config-relations": _config_relations,
    "config-pairs": _pairs,
    "config-toml": _toml,
    "pipeline": _pipeline,
    "pipeline-of-nothing": _pipeline_of_nothing,
    "event": _event,
    "feature-of-no-field": _feature_of_no_field,
    "file-format": _file_format,
    "file-columns": _file_columns,
    "file-exists": _file_exists,
    "slice": _slice,
    "model-manifest": _model(_model_manifest),
    "model-changed": _model(_model_changed),
    "model-scores": _model(_model_scores),
    "model-features": _model(_model_features),
}


def _told(case: Callable[[], None]) -> str:
    try:
        case()
    except HeadraceError as error:
        text = f"{error.code}: {error}\n"
    else:
        raise AssertionError("nothing was raised")
    # Where a function is in memory is nobody's business, and where it is in this file may change.
    return re.sub(r"\.py:\d+", ".py:LINE", re.sub(r"0x[0-9a-f]+", "0x...", text))


@pytest.mark.parametrize("name", CASES)
def test_an_error_has_the_text_that_is_pinned(name: str) -> None:
    pinned = (ERRORS / f"{name}.txt").read_text()
    assert _told(CASES[name]) == pinned, "if this is meant: python tests/golden/test_errors.py"


def test_every_pinned_text_has_its_case() -> None:
    assert sorted(path.stem for path in ERRORS.glob("*.txt")) == sorted(CASES)


def test_no_pinned_text_has_a_secret() -> None:
    assert not [path.name for path in ERRORS.glob("*.txt") if "hunter2" in path.read_text()]


if __name__ == "__main__":
    for name, case in CASES.items():
        (ERRORS / f"{name}.txt").write_text(_told(case))
