"""Who takes part: the name, what it promises, and the command line that runs it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import jobs

HERE = Path(__file__).resolve().parent
INPUT = "transactions"  # Headrace's pipelines read this one, so everybody does
SHORT_INPUT = "transactions-short"  # the first events of the same, for the slow
ALO = "at-least-once"
EO = "exactly-once"


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    title: str
    peer: str | None  # None is Headrace itself, in the environment that runs this
    guarantee: str
    slow: bool = False  # gets the short input, so that a run stays bounded
    pipeline: Path = HERE / "stateless"  # what Headrace runs
    script: str = ""  # what a peer runs, where it is not named after the peer
    more: tuple[str, ...] = ()  # arguments to the script
    workers: int = 1  # of Headrace, in one group
    job: jobs.Job = jobs.STATELESS

    def command(self, python, *, broker, group, in_topic, out_topic, tuned_for, state_dir):
        """Return the command line; ``python`` is the interpreter of the peer's own environment."""
        if self.peer is None:
            group_of = [sys.executable, HERE / "workers.py", self.workers] if self.workers > 1 else []
            return [
                *group_of, sys.executable, "-m", "headrace.stream.cli", "run", self.pipeline,
                "--broker", broker, "--group", group, "--guarantee", self.guarantee,
                "--set", f"topic_predictions={out_topic}", "--set", f"state_dir={state_dir}",
                "--set", "web_port=-1",
            ]  # fmt: skip
        return [
            python, HERE / "peers" / (self.script or f"{self.peer}_job.py"),
            "--broker", broker, "--in-topic", in_topic, "--out-topic", out_topic, "--group", group,
            "--guarantee", self.guarantee, "--tuned-for", tuned_for, "--state-dir", state_dir,
            *self.more,
        ]  # fmt: skip


STATELESS = (
    Contestant("bare", "bare confluent-kafka loop", "bare", ALO),
    Contestant("headrace-alo", "Headrace at-least-once", None, ALO),
    Contestant("headrace-eo", "Headrace exactly-once", None, EO),
    Contestant("quix-alo", "Quix Streams at-least-once", "quix", ALO),
    Contestant("quix-eo", "Quix Streams exactly-once", "quix", EO),
    Contestant("bytewax", "Bytewax", "bytewax", ALO),
    Contestant("pathway", "Pathway", "pathway", ALO),
    Contestant("faust", "stock Faust", "faust", ALO, slow=True),
)
# The same cards with a memory: what they did in the last five minutes and the last hour (windows.py).
REMEMBERING = (
    Contestant("bare-windows", "bare loop, windows in a dict, not durable", "bare", ALO, script="windows_job.py"),
    Contestant("headrace-windows-alo", "Headrace at-least-once, durable", None, ALO, pipeline=HERE / "remembering"),
    Contestant("headrace-windows-eo", "Headrace exactly-once, durable", None, EO, pipeline=HERE / "remembering"),
)


def _learning(name, title, peer, guarantee, **others):
    script = f"{peer}_learning_job.py"
    return Contestant(name, title, peer, guarantee, script=script, job=jobs.LEARNING, **others)


JOB = HERE / "learning_job"
# All of it: memory, a fixed model, and one that learns from every event.
LEARNING = (
    _learning("bare-learning", "bare loop, nothing durable", "bare", ALO),
    _learning("headrace-learning-eo", "Headrace exactly-once", None, EO, pipeline=JOB),
    _learning("headrace-two-learning-eo", "Headrace exactly-once, 2 workers", None, EO, pipeline=JOB, workers=2),
    _learning("streams-learning", "Kafka Streams (Java)", "streams", EO),
    _learning("streams-tuned-learning", "Kafka Streams (Java), tuned", "streams", EO, more=("--tuned",)),
    _learning("quix-learning-eo", "Quix Streams exactly-once", "quix", EO),
    _learning("bytewax-learning", "Bytewax, no recovery", "bytewax", ALO),
    _learning("flink-learning", "PyFlink, threads mode", "flink", EO),
    _learning("faust-learning", "stock Faust with tables", "faust", ALO, slow=True),
)
BY_NAME = {contestant.name: contestant for contestant in (*STATELESS, *LEARNING)}
QUICK = ("bare", "headrace-alo", "headrace-eo", "bare-learning", "headrace-learning-eo")
