"""A scenario's own topics, group and processes on a broker that it shares with the others."""

import importlib.util
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from unittest import mock

import confluent_kafka
from aiokafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

from faults import reader
from faults.generator import Generator
from faults.ledger import Ledger
from faults.reader import LiveReader
from faults.tally import Tally
from faults.verifier import Verifier
from faults.worker import Worker, headrace
from headrace.stream.drift import to_be_learned

HERE = Path(__file__).parent
PIPELINE = HERE / "pipeline.py"
PARTITIONS = 6
SETTLE_SECONDS_MAX = 90.0
ASK_SECONDS_MAX = 600.0

# Short timeouts, so that a dead worker is missed within seconds and not within the time a person waits.
SETTINGS = {
    "session_timeout_ms": "3000",
    "transaction_timeout_ms": "6000",
    "topic_partitions": "3",
    "web_port": "-1",
}


class Stage:
    """Everything that one scenario needs, taken down at its end whatever happened.

    The outputs have another number of partitions than the input, on purpose: a worker that thinks in terms of
    one partition in, one partition out does not get far.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        *,
        seed: int,
        partitions: int = PARTITIONS,
        predictions_config: Mapping[str, str] | None = None,
    ) -> None:
        name = uuid.uuid4().hex[:8]
        self.address = address
        self.folder = folder
        self.seed = seed
        self.partitions = partitions
        self.group = f"scenario-{name}"
        self.topic = f"transactions-{name}"
        self.predictions = f"predictions-{name}"
        self.dead_letters = f"dead-letters-{name}"
        self.alerts = f"alerts-{name}"
        self.state_topic = f"{self.group}-state"
        self.workers: dict[str, Worker] = {}
        self.verifier = Verifier(address, self.topic, self.predictions, self.dead_letters, self.group)
        self._predictions_config = dict(predictions_config or {})
        self._admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        self._topics: list[str] = []
        self._generators: list[Generator] = []
        self._live: LiveReader | None = None

    def __enter__(self) -> Self:
        large = {"max.message.bytes": str(8 * 1_048_576)}
        self.create(self.topic, self.partitions, large)
        self.create(self.predictions, 3, self._predictions_config)
        self.create(self.dead_letters, 1, large)
        self.create(self.alerts, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            worker.kill()
        for generator in self._generators:
            generator.abandon()
        if self._live is not None:
            self._live.abandon()
        if self.state_topic in self._admin.list_topics(timeout=10).topics:
            self._topics.append(self.state_topic)
        if self._topics:
            for done in self._admin.delete_topics(self._topics, operation_timeout=30).values():
                done.exception(30)

    def load(self, path: Path, **environ: str) -> ModuleType:
        """Return the module that a worker's pipeline is in, as the worker has it."""
        with mock.patch.dict(os.environ, {"FAULTS_TOPIC": self.topic, **environ}), to_be_learned():
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return module

    def create(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> str:
        """Make a topic that is gone with the stage."""
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        self._admin.create_topics([new], operation_timeout=30)[topic].result(30)
        self._topics.append(topic)
        return topic

    def adopt(self, topic: str) -> None:
        """Take a topic that something else made away with the stage."""
        self._topics.append(topic)

    def cut(self, topic: str, partition: int) -> None:
        """Delete every record of a partition that is there now; a compacted topic would refuse."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        resource.add_incremental_config(
            ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
        )
        self._admin.incremental_alter_configs([resource])[resource].result(30)
        end = TopicPartition(topic, partition)
        offset = reader.ends(self.address, [topic])[end]
        cut = confluent_kafka.TopicPartition(topic, partition, offset)
        next(iter(self._admin.delete_records([cut]).values())).result(30)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        new = NewPartitions(topic, partitions)
        self._admin.create_partitions([new], operation_timeout=30)[topic].result(30)
        self.wait_until(
            lambda: len(self._admin.list_topics(topic, timeout=10).topics[topic].partitions) == partitions,
            lambda: f"{topic} has not {partitions} partitions yet",
        )

    def delete(self, topic: str) -> None:
        """Take a topic away while others use it; `create` makes it again."""
        self._admin.delete_topics([topic], operation_timeout=30)[topic].result(30)
        self._topics.remove(topic)
        self.wait_until(
            lambda: topic not in self._admin.list_topics(timeout=10).topics, lambda: f"{topic} is still there"
        )

    def generator(self, **options: Any) -> Generator:
        generator = Generator(self.address, self.topic, self.partitions, seed=self.seed, **options)
        self._generators.append(generator)
        return generator

    def worker(
        self,
        name: str = "one",
        *,
        pipeline: str | Path = PIPELINE,
        broker: str = "",
        env: Mapping[str, str] | None = None,
        reference: bool = False,
        within: Sequence[str] = (),
        **settings: object,
    ) -> Worker:
        """Return a worker that is not started yet; a second call with the same name returns another.

        ``within`` is a command that becomes the worker in the end, such as ``nice``.
        """
        options = {
            **SETTINGS,
            "topic_predictions": self.predictions,
            "topic_dead_letters": self.dead_letters,
            "topic_alerts": self.alerts,
            "state_dir": str(self.folder / f"state-{name}"),
            "instance": name,
            **{key: str(value) for key, value in settings.items() if value is not None},
        }
        for key in [key for key, value in settings.items() if value is None]:
            options.pop(key, None)
        arguments = ["run", str(pipeline), "--broker", broker or self.address, "--group", self.group]
        for key, value in options.items():
            # librdkafka's names have dots, which no keyword can have.
            arguments += ["--set", f"{key.replace('__', '.')}={value}"]
        if reference or os.environ.get("FAULTS_WORKER") == "reference":
            command = [sys.executable, str(HERE / "reference.py"), *arguments]
        else:
            command = headrace(*arguments)
        return self.process(name, [*within, *command], env)

    def ask(
        self,
        pipeline: str | Path,
        name: str,
        *arguments: str,
        predictions: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``headrace replay`` or ``parity`` on what the stage has, and return what came of it."""
        given = ["--broker", self.address, "--group", self.group]
        topics = {
            "topic_predictions": predictions or self.predictions,
            "topic_dead_letters": self.dead_letters,
            "topic_alerts": self.alerts,
        }
        for option, topic in topics.items():
            given += ["--set", f"{option}={topic}"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        return subprocess.run(
            headrace(name, str(pipeline), *given, *arguments),
            cwd=self.folder,
            env={**inherited, "FAULTS_TOPIC": self.topic, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS_MAX,
            check=False,
        )

    def process(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Worker:
        """Return any other program, cleaned up like a worker."""
        if name in self.workers:
            self.workers[name].kill()
        worker = Worker(name, command, self.folder, {"FAULTS_TOPIC": self.topic, **(env or {})})
        self.workers[name] = worker
        return worker

    def watch(self, ledger: Ledger) -> LiveReader:
        """Start the reader that watches while it happens."""
        self._live = LiveReader(self.address, Tally(ledger, self.predictions, self.dead_letters)).start()
        return self._live

    def wait_for(self, outputs: int, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until the live reader has seen so many records."""
        assert self._live is not None
        live = self._live

        def otherwise() -> str:
            lag = self.verifier.lag()
            return f"{live.tally.outputs} of {outputs} outputs were visible; committed and end, where behind: {lag}"

        self.wait_until(lambda: live.seen(outputs), otherwise, seconds_max)

    def settle(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until the group's offsets are the ends of the log, with at least one worker alive."""
        self.wait_until(
            lambda: not self.verifier.lag(),
            lambda: f"the group did not reach the end: committed and end by partition are {self.verifier.lag()}",
            seconds_max,
        )

    def wait_until(
        self,
        happened: Callable[[], bool],
        otherwise: Callable[[], str],
        seconds_max: float = SETTLE_SECONDS_MAX,
    ) -> None:
        deadline = time.monotonic() + seconds_max
        while not happened():
            self.assert_somebody_works()
            if time.monotonic() > deadline:
                told = otherwise()
                for worker in self.workers.values():
                    worker.dump_stacks()
                raise AssertionError(f"{told} (after {seconds_max:.0f} s)\n{self.tails}")
            time.sleep(0.1)

    def assert_somebody_works(self) -> None:
        ended = {name: worker.exit_code for name, worker in self.workers.items()}
        assert any(worker.alive for worker in self.workers.values()), f"no worker is alive: {ended}\n{self.tails}"

    @property
    def tails(self) -> str:
        return "\n".join(worker.tail for worker in self.workers.values())

    def judge(self, ledger: Ledger) -> Tally:
        """Settle, stop everything and let the verifier speak."""
        self.settle()
        return self.verdict(ledger)

    def verdict(self, ledger: Ledger) -> Tally:
        """Let the verifier speak about what there is now."""
        live = self._live.stop() if self._live else None
        return self.verifier.judge(ledger, live)

    def visible(self) -> int:
        """How many records a committed reader finds in the outputs now."""
        tally = Tally(Ledger(self.seed, self.partitions), self.predictions, self.dead_letters)
        return reader.read(self.address, tally).outputs

    def wait_until_visible(self, count: int) -> None:
        """Wait until a committed reader finds so many: a commit is answered before it is marked in each output."""
        self.wait_until(
            lambda: self.visible() == count,
            lambda: f"a committed reader finds {self.visible()} records, and {count} were expected",
        )

    def open_transactions(self) -> bool:
        """Whether a transaction is open in the outputs."""
        return self._open([self.predictions, self.dead_letters])

    def pending_offsets(self) -> bool:
        """Whether offsets are in a transaction that is open; those of any group on this broker."""
        return self._open(["__consumer_offsets"])

    def _open(self, topics: list[str]) -> bool:
        return reader.ends(self.address, topics) != reader.ends(self.address, topics, isolation="read_committed")

    def committed_events(self) -> int:
        """How far the group has come, all partitions together; equals events where the input has no markers."""
        return sum(self.committed().values())

    def committed(self) -> dict[TopicPartition, int]:
        return reader.committed(self.address, self.group)
