"""The short form of ``make soak``: the same run, for a minute."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.alone]

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"


def test_a_soak_with_restarts_of_workers_and_of_the_broker_doubles_nothing_and_grows_nothing(
    broker, tmp_path, seed, form
) -> None:
    print(f"HEADRACE_SEED={seed}")
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    soak = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = soak  # where its dataclasses look for themselves
    spec.loader.exec_module(soak)
    report = soak.soak(broker.real, tmp_path, events=form.of(60_000, 1_000_000), rate=form.of(2_000, 10_000), seed=seed)
    print(report)
    assert not report.problems, report
    assert report.events == form.of(60_000, 1_000_000)
