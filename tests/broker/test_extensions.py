"""What a user adds to the worker of a pipeline runs beside the scoring, and takes nothing from its guarantee."""

from pathlib import Path

import pytest
from broker.test_vanilla_faust import _page, _send, _topics
from faults import reader
from faults.stage import Stage

from headrace.stream.broker import free_port

pytestmark = pytest.mark.broker

EXTENDED = Path(__file__).parents[1] / "faults/extended.py"
NOTES, EVENTS = 2_000, 2_000


def test_an_agent_a_timer_and_a_page_run_beside_the_scoring_and_a_killed_worker_goes_on(stage: Stage) -> None:
    topic = _topics(stage, notes=2)["NOTES"]
    port = free_port()
    generator = stage.generator()
    ledger = generator.send(EVENTS)
    _send(stage, topic, [{"text": str(number)} for number in range(NOTES)])
    stage.watch(ledger)

    def start():
        worker = stage.worker(
            pipeline=EXTENDED, env={"NOTES": topic}, web_port=port, kafka__auto__offset__reset="earliest"
        )
        return worker.start().wait_until_ready()

    worker = start()
    stage.wait_until(
        lambda: isinstance(told := _page(port, "/notes/"), dict) and told["seen"] == NOTES and told["beats"] > 0,
        lambda: f"the page says {_page(port, '/notes/')}, not {NOTES}",
    )
    worker.kill()
    ledger = generator.send(EVENTS)
    worker = start()
    stage.wait_for(ledger.outputs)
    stage.settle()
    worker.terminate()
    assert worker.wait() == 0, worker.tail
    stage.judge(ledger)
    assert sum(reader.committed(stage.address, stage.group).values()) >= NOTES
