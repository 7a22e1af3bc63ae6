"""Two brokers to work against: librdkafka's mock cluster in this process, and Apache Kafka on loopback."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import confluent_kafka

from headrace.schemas.errors import BrokerNotAvailable

KAFKA_VERSION = "4.1.1"
START_SECONDS_MAX = 60.0

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
  </dependency></dependencies>
</project>
"""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.partitions=4
"""


class EmbeddedBroker:
    """librdkafka's mock cluster, in this process: no Java, no disk, gone with the process.

    It serves consumer groups and every Kafka client, and it answers to transactions without keeping what
    they promise: offsets sent with one are not stored, and what was aborted is read like the rest. Topics
    appear when they are first used, with four partitions, and it keeps about the last 5 MB of each
    partition: a reader that falls further behind than that loses records, so keep both ends running.

    >>> with EmbeddedBroker() as broker:
    ...     broker.address.startswith("127.0.0.1:")
    True
    """

    def __init__(self) -> None:
        self.address = ""
        self._owner: confluent_kafka.Producer | None = None

    def __enter__(self) -> Self:
        # The cluster lives in whichever client asked for it, and dies with that client.
        settings: dict[str, Any] = {
            "test.mock.num.brokers": 1,
            "bootstrap.servers": "mock",
            "log_level": 3,
            "log.connection.close": False,
        }
        self._owner = confluent_kafka.Producer(settings)
        brokers = self._owner.list_topics(timeout=START_SECONDS_MAX).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner = None

    def create(self, topic: str) -> None:
        """Have the topic made, by asking for it."""
        assert self._owner is not None, "the broker was not started"
        self._owner.list_topics(topic, timeout=START_SECONDS_MAX)


class RealBroker:
    """Apache Kafka in KRaft mode on free loopback ports: one process that is broker and controller.

    ``stop`` and ``start`` keep the data and the port, so a test can take the broker away and bring it back.
    The jars come through Maven the first time and stay in the user's cache.
    """

    def __init__(self, folder: Path | None = None, *, port: int = 0, properties: dict[str, str] | None = None) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._controller = free_port()
        self._properties = properties or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._classpath = ""

    @property
    def pid(self) -> int | None:
        """The broker's process, or None while it is stopped."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self._classpath = f"{kafka_jars()}/*"
        self._format()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the process and return once it answers."""
        assert self._process is None, "the broker runs already"
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                [
                    find_java(),
                    "-Xms256m",
                    "-Xmx1g",
                    "-cp",
                    self._classpath,
                    "kafka.Kafka",
                    str(self._configuration),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the broker after its clients
            )
        self._wait_until_ready()

    def stop(self, *, hard: bool = False) -> None:
        """End the process: SIGTERM and a wait, or SIGKILL at once where ``hard``."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = _PROPERTIES.format(port=self.port, controller=self._controller, folder=self.folder)
        text += "".join(f"{name}={value}\n" for name, value in self._properties.items())
        self._configuration.write_text(text)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(  # noqa: S603 - our own command line, no shell
            [
                find_java(), "-XX:TieredStopAtLevel=1", "-cp", self._classpath,
                "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._configuration),
            ],
            capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise BrokerNotAvailable(f"Kafka's storage could not be formatted: {done.stderr.decode().strip()}")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        client = confluent_kafka.Producer({"bootstrap.servers": self.address, "log_level": 0})
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                tail = (self.folder / "broker.log").read_text(errors="replace")[-2_000:]
                self._process = None
                raise BrokerNotAvailable(f"Kafka ended while starting; the end of its log:\n{tail}")
            try:
                client.list_topics(timeout=1)
            except confluent_kafka.KafkaException:
                continue
            return
        self.stop(hard=True)
        raise BrokerNotAvailable(f"Kafka did not answer on {self.address} within {START_SECONDS_MAX:.0f} s")


def kafka_jars() -> Path:
    """Return the folder with Kafka's jars, fetched through Maven if they are not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "headrace" / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerNotAvailable("Maven is not installed, and Kafka's jars come through it: install maven")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        (Path(scratch) / "pom.xml").write_text(_POM)
        done = subprocess.run(  # noqa: S603 - our own command line, no shell
            [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"],
            cwd=scratch,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise BrokerNotAvailable(f"Maven could not fetch Kafka {KAFKA_VERSION}: {done.stdout.decode()[-2_000:]}")
        # Renamed as a whole, so that two fetches at once, or one that was killed, never leave half a folder.
        try:
            (Path(scratch) / "jars").rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def find_java() -> str:
    """Return the path of Java's runtime."""
    java = shutil.which("java")
    if java is None:
        raise BrokerNotAvailable("Java is not installed, and the real broker runs on it: install a Java 17 runtime")
    return java


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Run the real broker until Ctrl-C (``make broker``)."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9092
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    with RealBroker(port=port) as broker:
        sys.stdout.write(
            f"Apache Kafka {KAFKA_VERSION} answers on {broker.address}; Ctrl-C stops it, and its data goes.\n"
        )
        sys.stdout.flush()
        try:
            while not stopped and broker.pid and broker._process and broker._process.poll() is None:  # noqa: SLF001
                time.sleep(0.5)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
