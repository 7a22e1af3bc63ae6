"""What the health pages say while the broker is away: not ready, and still live."""

import http.client
import json

import pytest
from faults.stage import Stage

from headrace.schemas.dead_letter import Reason
from headrace.stream.broker import free_port

pytestmark = [pytest.mark.broker, pytest.mark.alone]


def _get(port: int, path: str) -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        client.close()


def test_while_the_broker_is_away_a_worker_is_not_ready_and_stays_live(stage: Stage, broker) -> None:
    port = free_port()
    generator = stage.generator()
    stage.watch(generator.ledger)
    # A partition that stands still is told within a second, and would be the reason if it were one.
    worker = stage.worker(stall_red_ms=1_000, web_port=port).start().wait_until_ready()
    stage.wait_for(generator.send(1_000).outputs)
    stage.wait_until(lambda: _get(port, "/health/ready")[0] == 200, lambda: _get(port, "/health/ready?verbose")[1])
    letters = sum(_value(port, f'headrace_dead_letters_total{{reason="{reason}"}}') for reason in Reason)
    assert _value(port, "headrace_predictions_total") + letters == generator.ledger.outputs
    broker.real.stop()
    try:
        stage.wait_until(lambda: _get(port, "/health/ready") == (503, "unready\n"), lambda: "it is still ready")
        told = json.loads(_get(port, "/health/ready?verbose")[1])
        assert "no broker answers" in told["missing"]
        assert _get(port, "/health/live") == (200, "live\n")
        assert _get(port, "/health/started") == (200, "started\n")
        assert _value(port, 'headrace_health{probe="ready"}') == 0
        assert _value(port, 'headrace_health{probe="live"}') == 1
    finally:
        broker.real.start()
    stage.wait_until(lambda: _get(port, "/health/ready")[0] == 200, lambda: _get(port, "/health/ready?verbose")[1])
    assert _get(port, "/health/live")[0] == 200
    ledger = generator.send(1_000)
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    worker.terminate()
    assert worker.wait() == 0, worker.tail


def _value(port: int, sample: str) -> float:
    lines = [line for line in _get(port, "/metrics")[1].splitlines() if line.startswith(f"{sample} ")]
    assert len(lines) == 1, f"{sample}: {lines}"
    return float(lines[0].split(" ")[1])
