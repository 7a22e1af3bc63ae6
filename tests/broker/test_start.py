"""The first seconds: a broker that is not there yet, and options that cannot run."""

import resource
import subprocess
import time
from pathlib import Path

import pytest
from faults.stage import PIPELINE, Stage
from faults.worker import headrace

pytestmark = pytest.mark.broker

LOOK_SECONDS = 8.0


def test_f08_a_worker_waits_for_a_broker_that_comes_later_and_uses_no_processor_meanwhile(
    stage: Stage, broker, form
) -> None:
    generator = stage.generator()
    ledger = generator.send(form.of(2_000, 100_000))
    broker.real.stop()
    try:
        worker = stage.worker().start()
        _wait_until_calm(worker)
        before = worker.footprint
        time.sleep(form.of(int(LOOK_SECONDS), 60))
        assert worker.alive, f"it ended with {worker.exit_code}:\n{worker.tail}"
        after = worker.footprint
        share = (after.cpu_seconds - before.cpu_seconds) / (after.at - before.at)
        assert share < 0.05, f"it used {share:.0%} of a processor to wait"
    finally:
        broker.real.start()
    stage.watch(ledger)
    worker.wait_until_ready()
    generator.send(form.of(2_000, 10_000))
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)


def _wait_until_calm(worker) -> None:
    """Wait until it has started up: a second in which it did next to nothing."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = worker.footprint
        time.sleep(1)
        after = worker.footprint
        if before and after and after.cpu_seconds - before.cpu_seconds < 0.1 and after.rss_kb > 30_000:
            return
    raise AssertionError(f"it never came to rest:\n{worker.tail}")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["commit_intervall_ms=100"], ["commit_intervall_ms"]),
        (["commit_interval_ms=soon"], ["commit_interval_ms", "soon"]),
        (["session_timeout_ms=1"], ["session_timeout_ms"]),
        (["guarantee=twice"], ["guarantee", "exactly-once", "at-least-once"]),
        (["kafka.enable.idempotence=false"], ["enable.idempotence"]),
        (["kafka.no.such.property=1"], ["no.such.property"]),
        (["batch_count_max=0", "assignment=random"], ["batch_count_max", "assignment"]),
    ],
    ids=lambda given: ",".join(given)[:40],
)
def test_f50_options_that_cannot_run_are_all_named_at_once_with_exit_code_2(
    tmp_path: Path, settings: list[str], named: list[str]
) -> None:
    # Nobody listens there: options are checked before anything is connected.
    command = headrace("run", str(PIPELINE), "--broker", "127.0.0.1:9", "--group", "options")
    for setting in settings:
        command += ["--set", setting]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"FAULTS_TOPIC": "t"},
        capture_output=True,
        timeout=30,
        check=False,
        text=True,
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    assert "BAD_CONFIG" in done.stderr
    assert [name for name in named if name not in done.stderr] == [], done.stderr
    # Its own processor time, because the machine may be busy with something else.
    spent = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    assert spent < 2, f"it took {spent:.1f} s to find out"
