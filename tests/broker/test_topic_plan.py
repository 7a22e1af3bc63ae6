"""``headrace topics`` on a real broker: what is planned is what is done, and no more."""

import json
import subprocess
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from faults.stage import PIPELINE, Stage
from faults.worker import headrace

pytestmark = pytest.mark.broker

LEARNING = Path(__file__).parents[1] / "faults/learning.py"


def test_a_plan_is_carried_out_once_and_what_breaks_keyed_state_is_refused(stage: Stage) -> None:
    admin = AdminClient({"bootstrap.servers": stage.address, "log_level": 0})

    def run(*arguments: str, code: int) -> subprocess.CompletedProcess[str]:
        given = ["--broker", stage.address, "--group", stage.group]
        for name in ("outcomes", "quality", "predictions", "alerts", "dead_letters"):
            given += ["--set", f"topic_{name}={stage.topic}-{name}"]
        done = subprocess.run(
            headrace("topics", arguments[0], str(LEARNING), *arguments[1:], *given),
            cwd=stage.folder,
            env={"FAULTS_TOPIC": stage.topic},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    rows = [json.loads(line) for line in run("plan", "--json", code=1).stdout.splitlines()]
    assert {row["action"] for row in rows if row["role"] != "events"} == {"create"}
    there = {row["topic"] for row in rows} & set(admin.list_topics(timeout=10).topics)
    assert there == {stage.topic}, "a plan makes nothing"
    assert "7 done" in run("apply", code=0).stdout
    for row in rows:
        if row["topic"] not in (stage.topic, stage.state_topic):  # which the stage takes away anyhow
            stage.adopt(row["topic"])
    topics = admin.list_topics(timeout=10).topics
    for name in (stage.topic, f"{stage.topic}-labels", stage.state_topic):
        assert len(topics[name].partitions) == stage.partitions
    assert run("plan", code=0).stdout.endswith("nothing to do\n")
    told = run("apply", "--partitions", "9", code=12)
    assert "PARTITIONS_CHANGED: nothing was done:" in told.stderr
    assert "take a new topic and a new group" in told.stderr
    assert len(admin.list_topics(timeout=10).topics[stage.topic].partitions) == stage.partitions


def test_a_changelog_that_is_deleted_with_time_is_set_right_and_an_input_without_keys_past_grows(stage: Stage) -> None:
    admin = AdminClient({"bootstrap.servers": stage.address, "log_level": 0})
    stage.create(f"{stage.topic}-labels", stage.partitions)
    stage.create(stage.state_topic, stage.partitions, {"cleanup.policy": "delete"})
    given = ["--broker", stage.address, "--group", stage.group]
    for name, topic in (
        ("predictions", stage.predictions),
        ("alerts", stage.alerts),
        ("dead_letters", stage.dead_letters),
    ):
        given += ["--set", f"topic_{name}={topic}"]
    for name in ("outcomes", "quality"):
        given += ["--set", f"topic_{name}={stage.create(f'{stage.topic}-{name}', 1)}"]

    def run(pipeline: Path, *arguments: str) -> str:
        command = headrace("topics", "apply", str(pipeline), *given, *arguments)
        environ = {"FAULTS_TOPIC": stage.topic}
        return subprocess.run(command, cwd=stage.folder, env=environ, capture_output=True, text=True, check=True).stdout

    assert "cleanup.policy=compact" in run(LEARNING)
    resource = ConfigResource(ConfigResource.Type.TOPIC, stage.state_topic)
    policy = admin.describe_configs([resource])[resource].result(30)["cleanup.policy"]
    assert policy.value == "compact"
    run(PIPELINE, "--partitions", str(stage.partitions + 2))
    topic = admin.list_topics(stage.topic, timeout=10).topics[stage.topic]
    assert len(topic.partitions) == stage.partitions + 2
    stage._topics.remove(stage.state_topic)  # which the stage takes away anyhow
