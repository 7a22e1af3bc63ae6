"""F42: a flood of keys, most of which come once, costs the quiet keys their past and the worker nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults import recount
from faults.stage import Stage

FAULTS = Path(recount.__file__).parent
LIMIT_MIB, LIMIT_KEY_BYTES = 120, 700  # a worker, and per key that may be there; a snapshot in the making is in it


@pytest.mark.alone
def test_f42_ten_million_keys_take_the_memory_and_the_time_of_those_that_may_be_there(form) -> None:
    keys, keys_max = form.of(600_000, 10_000_000), form.of(20_000, 2_000_000)
    command = [sys.executable, str(FAULTS / "crowd.py"), str(keys), str(keys_max)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=1_800).stdout)
    print(told)
    assert told["keys"] <= keys_max
    assert told["evicted"] + told["keys"] == told["known"] + keys, "a key is there, or it was counted when it left"
    assert told["scores"] == {"evicted": 1.0, "never seen": 1.0, "kept": 2.0}
    assert told["peak_mib"]["end"] < 1.1 * (LIMIT_MIB + LIMIT_KEY_BYTES * keys_max / 2**20)
    assert told["p99_ms"]["flooded"] < 3 * told["p99_ms"]["usual"]


@pytest.mark.broker
def test_f42_keys_that_left_are_the_same_for_whoever_has_the_partition_next(stage: Stage, form) -> None:
    events, cards = form.of(30_000, 1_000_000), form.of(4_000, 100_000)  # of each partition
    generator = stage.generator(cards=cards)
    live = stage.watch(generator.ledger)
    keys_max = cards // 5
    few = {"FAULTS_KEYS_MAX": str(keys_max)}
    worker = stage.worker(pipeline=FAULTS / "remembering.py", env=few).start().wait_until_ready()
    generator.start(events)
    looks = []
    for share in (0.3, 0.6):
        stage.wait_for(int(share * events))
        looks.append(worker.footprint.rss_kb)
        worker.kill()
        worker.start()
    stage.wait_for(generator.join().outputs, form.of(90, 900))
    looks.append(worker.footprint.rss_kb)
    stage.judge(generator.ledger)
    assert live.tally.outputs == events
    found = [int(count) for count in re.findall(r" (\d+) keys as of offset", worker.output)]
    assert 0.9 * keys_max < max(found) <= keys_max, "there was room for all"
    assert max(looks) < (LIMIT_MIB + 2 * LIMIT_KEY_BYTES * 6 * keys_max / 2**20) * 1_024, looks
    done = stage.ask(FAULTS / "remembering.py", "parity", env=few)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"  {events:,} equal, 0 different, 0 missing, 0 unexpected" in done.stdout
