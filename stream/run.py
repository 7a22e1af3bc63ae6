"""Runs a worker until it is told to stop, or ends with the error that stopped it."""

import asyncio
import errno
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException

from headrace.models.frozen import unordered
from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config
from headrace.schemas.errors import BadConfig, HeadraceError
from headrace.stream import clients, health, heap, shared, topics
from headrace.stream.app import Worker
from headrace.stream.dry_run import DryRun, rehearsed
from headrace.stream.instance import Instance
from headrace.stream.load import Extension, called, extend

log = logging.getLogger("headrace")


def run(
    pipeline: Pipeline,
    config: Config,
    *,
    extensions: tuple[Extension, ...] = (),
    dry: bool = False,
    as_json: bool = False,
) -> None:
    """Run the pipeline; return after a clean stop, raise what ended it otherwise.

    ``extensions`` add their agents, timers and pages to the worker. A ``dry`` run publishes and commits nothing, and
    prints what it would have, as JSON or for a person; it does without them, since what they do is theirs.
    """
    fix_hashes(pipeline)
    heap.limit()
    config = msgspec.structs.replace(config, group=config.group or pipeline.name)
    if dry:
        config = rehearsed(config)
    clients.check(config)
    shared.check(pipeline, config)
    health.check_port(config.web_port, config.web_host)
    instance = None
    if not config.instance:
        try:
            instance = Instance(state_folder(config), config.group)
        except OSError as error:
            raise BadConfig(
                [
                    f"state_dir = {state_folder(config)}: no file can be made there ({error.strerror}), and this "
                    "worker's name is kept in one; give another folder, or say by instance what the worker is called"
                ]
            ) from error
        config = msgspec.structs.replace(config, instance=instance.name)
    # Nothing is in flight before the loop runs, so a signal may end the process where it stands.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    if len(pipeline.topics) > 1:
        # Whoever has a partition of the events has to have that of the labels, which only this sees to.
        config = msgspec.structs.replace(config, assignment="range")
    for role, why in pipeline.without_reasons.items():
        log.warning("reasons: the %s model gives none: %s", role, why)
    find = topics.look if dry else topics.prepare
    bytes_max, lineage = find(config, pipeline.topics, **topics.asked_by(pipeline)), ""
    if pipeline.has_memory and not dry:
        names = [*pipeline.topics, config.state_topic]
        if pipeline.shares:
            names += [config.lessons_topic, config.learner_state_topic]
        if pipeline.watch is not None:
            names += [config.slices_topic, config.slices_state_topic]
        lineage = topics.lineage(config, names)
    if dry and extensions:
        log.info("what extends the worker (%s) is left out of a dry run", ", ".join(map(called, extensions)))
    rehearsal = DryRun(config, as_json=as_json) if dry else None
    # What exists by now stays: the collector need not look at it with every sweep, each of which is a pause.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        count = topics.partitions(config, pipeline.wire.topic) if pipeline.watch is not None else 0
        asyncio.run(_run(pipeline, config, bytes_max, lineage, count, rehearsal, () if dry else extensions))
    finally:
        if instance is not None:
            instance.release()
        if rehearsal is not None:
            rehearsal.report(last=True)


def fix_hashes(pipeline: Pipeline) -> None:
    """Begin this process anew, where what is learned would be another in every process.

    Some of River's models go through a set of strings, in an order that Python draws anew at every start. A worker that
    makes a state again must come to the state that was there, so where there is such a model the order is fixed.
    """
    chosen = os.environ.get("PYTHONHASHSEED", "random")
    if pipeline.online is None or chosen != "random" or not unordered(pipeline.online):
        return
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - it is this very program


def state_folder(config: Config) -> Path:
    """Return where this worker keeps its files."""
    if config.state_dir:
        return Path(config.state_dir)
    return Path.home() / ".local" / "state" / "headrace"


async def _run(
    pipeline: Pipeline,
    config: Config,
    bytes_max: dict[str, int],
    lineage: str,
    partitions: int,
    dry: DryRun | None,
    extensions: tuple[Extension, ...],
) -> None:
    folder = state_folder(config)
    worker = Worker(pipeline, config, bytes_max, partitions=partitions, state_folder=folder, lineage=lineage, dry=dry)
    extend(worker, extensions)
    stopping = asyncio.Event()
    _listen(stopping, config.drain_timeout_ms / 1_000)
    beside = [asyncio.ensure_future(_announce(worker, config))]
    if dry is not None:
        beside.append(asyncio.ensure_future(dry.keep_reporting()))
    try:
        await _start(worker, config)
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(worker.wait_until_stopped())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        del done
    finally:
        for one in beside:
            one.cancel()
        worker.stopping()
        await worker.stop()
    if (error := worker.failed or worker.crash_reason) is not None:
        raise _named(error)
    scored, rejected = worker.scorer.scored, worker.scorer.rejected
    counts = {"scored": scored, "dead_letters": rejected}
    log.info("stopped: %d events scored, %d dead letters", scored, rejected, extra=counts)


async def _start(worker: Worker, config: Config) -> None:
    try:
        await worker.start()
    except OSError as error:
        # It was free when that was looked at, but the broker may have been waited for since.
        if error.errno == errno.EADDRINUSE and config.web_port > 0:
            raise health.port_taken(config.web_port, error, config.web_host) from error
        raise


async def _announce(worker: Worker, config: Config) -> None:
    await worker.wait_until_ready()
    what = "page" if config.page else "health"
    where = f", {what} on http://{config.web_host}:{worker.conf.web_port}" if config.web_port >= 0 else ""
    log.info(
        "ready: %s scores %s %s as %s%s",
        worker.pipeline.name,
        worker.pipeline.wire.topic,
        "dry run" if worker.dry is not None else config.guarantee,
        config.instance,
        where,
        extra={
            "pipeline": worker.pipeline.name,
            "group": config.group,
            "instance": config.instance,
            "guarantee": config.guarantee,
            "port": worker.conf.web_port if config.web_port >= 0 else None,
        },
    )


def _listen(stopping: asyncio.Event, seconds: float) -> None:
    """Stop at the first signal, and end at the second or when stopping takes too long.

    The handlers are the interpreter's, not the loop's: a loop that is busy with a slow step hears of nothing.
    """
    loop = asyncio.get_running_loop()
    told: list[str] = []

    def on_signal(number: int, _frame: Any) -> None:
        name = signal.Signals(number).name
        if told:
            log.error("%s again: ending at once; what is not committed is done again by the next worker", name)
            os._exit(1)
        told.append(name)
        log.info("%s: stopping; what is in flight is finished and committed", name)
        deadline = threading.Timer(seconds, on_late)
        deadline.daemon = True
        deadline.start()
        loop.call_soon_threadsafe(stopping.set)

    def on_late() -> None:
        log.error(
            "not stopped within drain_timeout_ms = %d: ending at once; this is where it stood", int(seconds * 1_000)
        )
        faulthandler.dump_traceback()
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _named(error: BaseException) -> BaseException:
    if isinstance(error, KafkaException):
        return clients.named(clients.kafka_error(error), "the worker stopped")
    if isinstance(error, HeadraceError) or not isinstance(error, Exception | asyncio.CancelledError):
        return error
    return HeadraceError(
        f"the worker stopped: {type(error).__name__}: {error}; what was not committed is scored again after a restart"
    )
