"""What the page of one worker knows of the whole group, and what its button does, on the real broker."""

import http.client
import json
import re
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from faults.stage import Stage

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState
from headrace.stream.broker import free_port

pytestmark = pytest.mark.broker


def _ask(port: int, path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request("GET" if body is None else "POST", path, body and json.dumps(body), given)
        answer = client.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        client.close()


def _data(port: int) -> Any:
    status, text = _ask(port, "/page/data")
    return json.loads(text) if status == 200 else None


def test_every_workers_page_shows_the_whole_group_and_its_button_publishes(stage: Stage) -> None:
    generator = stage.generator()
    stage.watch(generator.ledger)
    ports = [free_port(), free_port()]
    said = f"acknowledgements-{stage.group}"
    stage.adopt(said)
    for port in ports:
        stage.worker(f"page-{port}", web_port=port, topic_acknowledgements=said).start().wait_until_ready()
    ledger = generator.send(1_000)
    stage.wait_for(ledger.outputs)

    def whole() -> bool:
        told = [_data(port) for port in ports]
        if not all(one and one["group"]["known"] for one in told):
            return False
        for one in told:
            group, (mine, other) = one["group"], sorted(one["group"]["members"], key=lambda member: member["name"])
            shared = [mine["partitions"], other["partitions"]]
            owners = {place["worker"] for place in group["partitions"]}
            lag = sum(place["lag"] for place in group["partitions"])
            if 0 in shared or sum(shared) != len(group["partitions"]) or lag or "" in owners:
                return False
            if one["worker"]["instance"] not in owners or owners != {mine["name"], other["name"]}:
                return False
        # Together their own partitions are the group's, and none is with both.
        places = [{(at["topic"], at["partition"]) for at in one["partitions"]} for one in told]
        return not places[0] & places[1] and len(places[0] | places[1]) == len(told[0]["group"]["partitions"])

    stage.wait_until(whole, lambda: json.dumps([(_data(port) or {}).get("group") for port in ports]))

    alert = Alert(id="drift-amount-7", at=1.0, kind="drift", state=AlertState.RAISED, text="amount moved")
    client = Producer({"bootstrap.servers": stage.address, "log_level": 0})
    client.produce(stage.alerts, msgspec.json.encode(alert), alert.id)
    assert client.flush(30) == 0
    stage.wait_until(lambda: (_data(ports[0]) or {}).get("alerts"), lambda: "the alert is not on the page")
    guard = re.search(r'headrace-guard" content="([^"]+)"', _ask(ports[0], "/")[1])
    assert guard is not None
    status, text = _ask(
        ports[0],
        "/page/acknowledge",
        {"id": alert.id, "by": "ada"},
        Content_Type="application/json",
        Origin=f"http://127.0.0.1:{ports[0]}",
        X_Headrace_Page=guard[1],
    )
    assert status == 200, text
    stage.wait_until(
        lambda: ((_data(ports[1]) or {}).get("alerts") or [{}])[0].get("acknowledged"),
        lambda: "the other worker's page did not hear of it",
    )
    reader = Consumer({"bootstrap.servers": stage.address, "group.id": "judge", "log_level": 0})
    count = len(reader.list_topics(said, timeout=30).topics[said].partitions)
    reader.assign([TopicPartition(said, number, 0) for number in range(count)])
    record = reader.poll(60)
    reader.close()
    assert record is not None
    assert msgspec.json.decode(record.value(), type=Acknowledgement).by == "ada"
    stage.judge(ledger)
