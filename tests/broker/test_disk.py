"""A worker whose disk is full: it works on, because what it keeps there is only to be quick."""

from pathlib import Path

import pytest
from faults import recount
from faults.disk import FULL, SizeLimit, SmallDisk, files
from faults.stage import PARTITIONS, Stage

pytestmark = pytest.mark.broker
ALTERED = Path(recount.__file__).with_name("altered.py")


@pytest.mark.parametrize("kind", [SmallDisk, SizeLimit])
def test_f39_a_full_disk_costs_the_snapshots_and_nothing_else_until_there_is_room_again(
    stage: Stage, tmp_path: Path, kind: type[SmallDisk | SizeLimit]
) -> None:
    disk = kind(folder := tmp_path / "disk")
    if disk.missing:
        pytest.skip(disk.missing)
    generator = stage.generator()
    live = stage.watch(generator.ledger)
    hasty = {"pipeline": ALTERED, "env": {"FAULTS_ALTERED": "hasty"}, "batch_count_max": 100}
    # Without a name of its own it takes one, and keeps that on the same disk.
    worker = stage.worker(**hasty, within=disk.within, state_dir=folder, instance=None).start()
    generator.start(1_000_000, rate=1_500)
    stage.wait_until(lambda: len(files(disk.folder(worker))) == PARTITIONS, lambda: "not every partition has a file")

    disk.fill(worker)
    written = files(disk.folder(worker))
    worker.wait_for_line(rf"\.state was not written \(.*{disk.told}.*\); a restart takes a little longer")
    stage.wait_for(live.tally.outputs + 2_000)
    assert files(disk.folder(worker)) == written, "what was whole is left as it is"

    worker.kill()
    worker.start(**FULL)
    worker.wait_for_line(rf"was not written \(.*{disk.told}")
    stage.wait_for(live.tally.outputs + 2_000)

    disk.free(worker)
    written = files(disk.folder(worker))
    stage.wait_until(lambda: files(disk.folder(worker)) != written, lambda: "there is room, and nothing was written")
    ledger = generator.stop()
    stage.wait_for(ledger.outputs)
    stage.judge(ledger)
    wrong = recount.differences(stage.address, stage.topic, stage.predictions, partitions=PARTITIONS, predicted_in=3)
    assert not wrong, wrong
