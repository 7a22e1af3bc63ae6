"""What ``headrace doctor`` finds without a broker: each fault that is planted is found by the name of its check.

Flow: a pipeline, options and a machine that are well; then one thing is spoilt, and exactly its check says so.
"""

import json
import os
import resource
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headrace import Linear, save_static
from headrace.schemas.config import configure, from_pairs, from_toml
from headrace.stream import checks_here, cli, doctor, probe
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.finding import Finding, Verdict

PIPELINE = """\
from headrace import Event, Pipeline, Static, log1p

class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float

pipeline = Pipeline(name="payments", events=Payment, features={"amount": log1p("amount")}, static=Static("model"))
"""
NOBODY = "127.0.0.1:9"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline with a model in a folder, all well."""
    for name in os.environ:
        if name.startswith("HEADRACE_") or name == "PYTHONHASHSEED":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    golden = {"amount": np.array([0.0, 2.0])}
    save_static(Linear({"amount": 0.5}), tmp_path / "model", features=["amount"], version="1", golden=golden)
    return tmp_path


def _found(*pairs: str, path: str = "pipeline.py", broker: str = NOBODY, toml: str = "") -> dict[str, Finding]:
    """What is not well, by the name of its check."""
    layers = from_toml(toml, "headrace.toml") if toml and not toml.startswith("!") else {}

    def configured():
        if toml.startswith("!"):
            from_toml(toml.removeprefix("!"), "headrace.toml")
        return configure(layers, from_pairs([f"broker={broker}", "state_dir=state", *pairs]))

    told = list(doctor.examine(path, configured))
    assert {one.check for one in told} == set(doctor.CHECKS)
    return {one.check: one for one in told if one.verdict in (Verdict.WARN, Verdict.FAIL)}


def test_nothing_is_found_where_all_is_well_but_that_nobody_listens(folder: Path) -> None:
    assert set(_found()) == {"broker-reach"}


def _spoil_pipeline(before: str, after: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / "pipeline.py").read_text()
        assert before in text
        (folder / "pipeline.py").write_text(text.replace(before, after))

    return spoil


def _spoil_manifest(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "model/manifest.json"
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return spoil


def _another_byte(folder: Path) -> None:
    held = json.loads((folder / "model/manifest.json").read_text())
    file = folder / "model" / held["file"]
    file.write_bytes(file.read_bytes() + b" ")


def _scores(held: dict) -> None:
    held["golden"]["scores"][1] += 0.25


FAULTS_OF_PIPELINES: dict[str, Callable[[Path], object]] = {
    "pipeline-file": lambda folder: (folder / "pipeline.py").unlink(),
    "pipeline-syntax": _spoil_pipeline("class Payment(", "class Payment(("),
    "pipeline-import": _spoil_pipeline("from headrace import", "import nowhere_to_be_found\nfrom headrace import"),
    "pipeline-one": _spoil_pipeline("pipeline = Pipeline(", "pipeline = dict("),
    "pipeline-parts": _spoil_pipeline('log1p("amount")', 'log1p("amout")'),
    "model-folder": lambda folder: shutil.rmtree(folder / "model"),
    "model-hash": _another_byte,
    "model-golden": _spoil_manifest(_scores),
    "model-file": _spoil_manifest(lambda held: held.update(format=99)),
    "model-features": _spoil_pipeline('{"amount": log1p', '{"amount_log": log1p'),
}


@pytest.mark.parametrize("check", FAULTS_OF_PIPELINES)
def test_a_fault_of_the_pipeline_or_its_model_is_found_by_name(folder: Path, check: str) -> None:
    FAULTS_OF_PIPELINES[check](folder)
    found = _found()
    # What does not load is not asked whether it fits, and a feature that no model reads is told beside.
    assert set(found) - {"pipeline-parts", "broker-reach"} == {check} - {"pipeline-parts"}
    assert check in found
    assert found[check].verdict == Verdict.FAIL
    assert found[check].what
    assert found[check].hint


def test_a_library_that_a_model_needs_is_found_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _spoil_manifest(lambda held: held.update(kind="lightgbm"))(folder)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert "headrace[lightgbm]" in _found()["extras"].what


FAULTS_OF_OPTIONS: dict[str, dict] = {
    "config-file": {"toml": "!group = cards"},
    "config-unknown": {"pairs": ["grup=cards"]},
    "config-value": {"pairs": ["batch_count_max=0"]},
    "config-owned": {"pairs": ["kafka.enable.idempotence=false"]},
    "config-client": {"pairs": ["kafka.no.such.property=1"]},
    "config-password": {"pairs": ["kafka.sasl.password=hunter2"]},
    "config-together": {"pairs": ["commit_interval_ms=60000"]},
}


@pytest.mark.parametrize("check", FAULTS_OF_OPTIONS)
def test_a_fault_of_the_options_is_found_by_name(folder: Path, check: str) -> None:
    given = FAULTS_OF_OPTIONS[check]
    found = _found(*given.get("pairs", ()), toml=given.get("toml", ""))
    assert set(found) == {check}, "with options that cannot run, no broker is looked for"
    assert found[check].verdict == Verdict.FAIL
    assert "hunter2" not in found[check].what


def test_every_problem_of_the_options_is_told_at_once(folder: Path) -> None:
    assert set(_found("grup=x", "web_port=x", "kafka.group.id=x", "group=")) == {
        "config-unknown",
        "config-value",
        "config-owned",
    }


def _old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checks_here, "sys", SimpleNamespace(version_info=(3, 10), modules=sys.modules, stderr=sys.stderr)
    )


def _other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.99" if name == "river" else real(name))


def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 20))


def _few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (64, 64))


def _another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("state").mkdir()
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)


def _no_folder(_monkeypatch: pytest.MonkeyPatch) -> None:
    Path("state").write_text("a file")


FAULTS_OF_THE_MACHINE = {
    "python-version": (_old_python, Verdict.FAIL),
    "dependencies": (_other_version, Verdict.WARN),
    "disk-space": (_little_room, Verdict.FAIL),
    "open-files": (_few_files, Verdict.FAIL),
    "state-owner": (_another_user, Verdict.WARN),
    "state-dir": (_no_folder, Verdict.FAIL),
}


@pytest.mark.parametrize("check", FAULTS_OF_THE_MACHINE)
def test_a_fault_of_this_machine_is_found_by_name(folder: Path, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, verdict = FAULTS_OF_THE_MACHINE[check]
    plant(monkeypatch)
    found = _found()
    assert set(found) == {check, "broker-reach"}
    assert found[check].verdict == verdict


LEARNER = """\
from river import linear_model, naive_bayes
from headrace import Event, Pipeline, field

class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float
    fraud: int

pipeline = Pipeline(
    name="payments", events=Payment, labels="fraud", features={"amount": field("amount")}, online=ONLINE
)
"""


def test_a_seed_of_hashes_that_decides_what_is_learned_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.models import frozen

    (folder / "pipeline.py").write_text(LEARNER.replace("ONLINE", "linear_model.LogisticRegression()"))
    monkeypatch.setattr(frozen, "unordered", lambda _model: True)
    assert "hash-seed" not in _found()
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert _found()["hash-seed"].verdict == Verdict.WARN


def test_a_learner_without_its_kernel_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.models import kernels

    (folder / "pipeline.py").write_text(LEARNER.replace("ONLINE", "linear_model.LogisticRegression()"))
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    assert _found()["learner-kernel"].verdict == Verdict.WARN


def test_a_port_that_is_taken_is_found(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        assert "web-port" in _found(f"web_port={taken.getsockname()[1]}")


def test_an_address_that_is_none_and_a_host_that_is_none_are_found(folder: Path) -> None:
    assert set(_found(broker="kafka:port")) == {"broker-address"}
    assert set(_found(broker="no-such-host.invalid:9092")) == {"broker-name", "broker-reach"}


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Something that answers with these bytes whoever asks which requests it knows, and its address."""
    servers: list[socket.socket] = []

    def serve(server: socket.socket, answer: bytes) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                # A real client asks in a newer way, and would take such an answer to be worse than none.
                if connection.recv(1_000)[4:8] == ASKED:
                    connection.sendall(answer)

    def start(answer: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=serve, args=(server, answer), daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def _versions(known: Mapping[int, int]) -> bytes:
    """What a broker answers when it is asked for the requests that it knows."""
    body = struct.pack(">ihi", 1, 0, len(known)) + b"".join(
        struct.pack(">hhh", key, 0, most) for key, most in known.items()
    )
    return struct.pack(">i", len(body)) + body


ASKED = struct.pack(">hh", 18, 0)
NEW = dict(probe.TRANSACTIONS.values())


def test_a_broker_says_which_requests_it_knows(answering: Callable[[bytes], str]) -> None:
    (address,) = probe.addresses(answering(_versions(NEW)))[0]
    assert probe.requests_known(address) == NEW


@pytest.mark.parametrize("key", NEW)
def test_a_broker_that_is_too_old_for_transactions_is_found(
    folder: Path, answering: Callable[[bytes], str], key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.stream.checks_broker.ANSWER_SECONDS_MAX", 0.2)
    old = {name: most - (name == key) for name, most in NEW.items()}
    address = answering(_versions(old))
    assert _found(broker=address)["broker-version"].verdict == Verdict.FAIL
    assert "broker-version" not in _found("guarantee=at-least-once", broker=address)


def test_who_is_no_broker_is_found(folder: Path, answering: Callable[[bytes], str]) -> None:
    assert set(_found(broker=answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) == {"broker-kafka"}


def test_tls_where_none_is_expected_is_found(folder: Path, answering: Callable[[bytes], str]) -> None:
    assert set(_found(broker=answering(b"\x15\x03\x03\x00\x02\x02\x46"))) == {"broker-tls"}


def test_no_tls_where_it_is_expected_is_found(folder: Path, answering: Callable[[bytes], str]) -> None:
    address = answering(_versions(NEW))
    assert set(_found("kafka.security.protocol=SSL", broker=address)) == {"broker-tls"}


def test_a_certificate_that_is_not_there_is_found(folder: Path) -> None:
    pairs = ["kafka.security.protocol=SSL", "kafka.ssl.ca.location=no.pem"]
    # The client refuses the file before anything is connected.
    assert set(_found(*pairs)) <= {"config-client", "broker-certificate"}
    assert _found(*pairs)


def test_of_several_brokers_one_that_is_away_is_a_warning(
    folder: Path, answering: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.stream.checks_broker.ANSWER_SECONDS_MAX", 0.2)
    found = _found(broker=f"{NOBODY},{answering(_versions(NEW))}")
    assert found["broker-reach"].verdict == Verdict.WARN


def _ends(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_report_ends_with_the_names_and_the_worst_decides_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["doctor", "pipeline.py", "--broker", NOBODY, "--set", "state_dir=state"]
    assert _ends(*given) == 2
    shown = capsys.readouterr().out
    assert shown.startswith("fail  broker-reach            nobody listens on 127.0.0.1:9\n")
    assert "start the broker" in shown
    assert shown.splitlines()[-1].startswith("1 failed (broker-reach), 0 warnings, ")
    assert "\x1b" not in shown
    assert _ends(*given, "--all") == 2
    shown = capsys.readouterr().out
    assert [name for name in doctor.CHECKS if f"  {name} " not in shown] == []
    assert _ends(*given, "--json") == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(row["check"] for row in rows)) == list(doctor.CHECKS)
    assert {row["verdict"] for row in rows} == {"ok", "fail", "skip"}


def test_what_a_pipeline_prints_is_no_part_of_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _spoil_pipeline("class Payment", "print('hello')\nclass Payment")(folder)
    _ends("doctor", "pipeline.py", "--broker", NOBODY, "--json")
    assert "hello" not in capsys.readouterr().out


def test_the_embedded_broker_is_looked_at_as_far_as_it_answers(folder: Path) -> None:
    with EmbeddedBroker() as broker:
        assert set(_found(broker=broker.address)) == {"topic-input"}
        broker.create("payments")
        assert _found(broker=broker.address) == {}


def test_every_check_has_a_fault_that_is_planted_for_it() -> None:
    here = Path(__file__)
    planted = here.read_text() + (here.parents[1] / "broker" / here.name).read_text()
    assert [name for name in doctor.CHECKS if f'"{name}"' not in planted] == []
