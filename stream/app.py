"""From a pipeline and its options to a Faust app that runs it."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust

from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config
from headrace.schemas.errors import Stalled
from headrace.stream import heap
from headrace.stream.agents import Scorer, score_events, tick
from headrace.stream.broker import free_port
from headrace.stream.commit import Committer
from headrace.stream.dry_run import DryMemories, DryRun
from headrace.stream.health import Health, Standing
from headrace.stream.listener import Hears, Listener
from headrace.stream.monitoring import Monitoring
from headrace.stream.page import Page
from headrace.stream.poller import Place
from headrace.stream.registry import CONTENT_TYPE, Labels
from headrace.stream.shared import Hearing, Shared, tell
from headrace.stream.state import Memories
from headrace.stream.telemetry import Telemetry
from headrace.stream.traces import Traces
from headrace.stream.transport import BatchTopic, Consumer

log = logging.getLogger("headrace.app")

CRASH_SECONDS_MAX = 5.0
GIVE_BACK_SECONDS = 20.0
TICK_SECONDS = 0.2
SAY_SECONDS = 2.0  # from one word on how far memories are made again to the next
LOOK_SECONDS_MAX = 1.0  # whoever asks for metrics waits no longer for a step to end


class Worker(faust.App):
    """A Faust app with one agent that scores, to which agents, timers and views can be added.

    Delivery guarantees
    -------------------
    What the pipeline scores is exactly once, or at least once where the options say so. Agents that are
    added to the app read other topics, and what they do is at least once, as in any Faust app.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: Config,
        bytes_max: dict[str, int],
        *,
        partitions: int,
        state_folder: Path,
        lineage: str,
        dry: DryRun | None = None,
    ) -> None:
        self.headrace = config
        self.pipeline = pipeline
        self.bytes_max = bytes_max
        self.telemetry = Telemetry(pipeline.kind)
        self.telemetry.describe(pipeline)
        self.shared = Shared(pipeline, config, bytes_max) if pipeline.shares else None
        self.monitoring: Monitoring | None = None
        if pipeline.watch is not None:
            self.monitoring = Monitoring(pipeline, config, bytes_max, partitions=partitions)
        # A dry run publishes nothing that a trace could go on in.
        self.traces = Traces(config, pipeline) if config.traces and dry is None else None
        self.scorer = Scorer(
            pipeline,
            config,
            bytes_max,
            self.shared,
            self.monitoring,
            telemetry=self.telemetry,
            traces=self.traces,
        )
        self.health = Health(stall_red_ms=config.stall_red_ms, stall_exit_ms=config.stall_exit_ms)
        self.health.standing = self.standing
        self.failed: BaseException | None = None
        self.dry = dry
        super().__init__(
            config.group,
            broker=f"headrace://{config.broker.split(',')[0]}",
            topic_disable_leader=True,
            web_enabled=config.web_port >= 0,
            web_bind=config.web_host,
            web_host=config.web_host,
            web_port=config.web_port if config.web_port > 0 else free_port(),
            web_tables_enabled=False,
            web_router_enabled=False,
            web_stats_enabled=False,
            web_graph_enabled=False,
            stream_recovery_delay=0.0,
            broker_session_timeout=config.session_timeout_ms / 1_000,
        )
        self._committer: Committer | None = None
        self._memories: Memories | None = None
        self._looking: asyncio.Future[None] | None = None  # at the quality of models
        self._gave_back_at = 0.0
        self._state_folder = state_folder
        self._lineage = lineage
        self._listeners: list[Listener] = []
        # What one worker does for all is no part of a dry run: lessons and slices are published by nobody there.
        lessons = [] if self.shared is None or dry is not None else [self.shared.topic]
        slices = () if self.monitoring is None or dry is not None else self.monitoring.topics
        records = BatchTopic(self, topics=[*pipeline.topics, *lessons, *slices])
        self.agent(records, name="score")(self._score)
        if len(pipeline.topics) > 1 or self.monitoring is not None:
            self.timer(TICK_SECONDS, name="tick")(self._tick)
        if lessons:
            self.timer(TICK_SECONDS, name="tell")(self._tell)
        self.health.add_pages(self)
        self._add_metrics()
        self._page: Page | None = None
        if config.page and config.web_port >= 0:
            self._page = Page(pipeline, config, self.telemetry, self.health, self.look)
            driver: Any = self.web  # aiohttp's
            self._page.add_routes(driver.web_app.router)

    def _create_directories(self) -> None:
        """Make none: Faust's are for tables, and a disk that is full or may not be written stops no worker."""

    async def _score(self, stream: Any) -> None:
        consumer = self._kafka
        assert self._committer is not None
        assert self._memories is not None
        await score_events(
            stream,
            self.scorer,
            self._committer,
            self._memories,
            drained=lambda: consumer.drained,
            fail=self.fail,
        )

    async def _tick(self) -> None:
        """Let events time out whose labels did not come."""
        if self._committer is None or self._memories is None or not self._kafka.resumed.is_set() or self.rebalancing:
            return
        consumer = self._kafka
        try:
            await tick(self.scorer, self._committer, self._memories, consumer.poller, drained=lambda: consumer.drained)
        except Exception as error:
            log.exception("what is due could not be carried out; the worker ends, and it is done by the next")
            await self.fail(error)

    async def _say_recovering(self, monitoring: Monitoring, memories: Memories) -> None:
        """Let the pages of other workers know how far memories are made again."""
        while True:
            await asyncio.sleep(SAY_SECONDS)
            monitoring.say_recovering(dict(memories.recovering), time.monotonic())

    async def _tell(self) -> None:
        """Let everybody know what was learned."""
        if self._committer is None or self.shared is None or not self._kafka.resumed.is_set() or self.rebalancing:
            return
        consumer = self._kafka
        try:
            await tell(
                self.shared, self.scorer.turn, self._committer, consumer.poller, drained=lambda: consumer.drained
            )
        except Exception as error:
            log.exception("what was learned could not be told; the worker ends, and the next one tells it")
            await self.fail(error)

    @property
    def _kafka(self) -> Consumer:
        consumer = self.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    @property
    def committer(self) -> Committer:
        """What carries out and commits."""
        assert self._committer is not None, "the worker was not started"
        return self._committer

    async def on_start(self) -> None:
        """Make the committer before the first partition comes."""
        await super().on_start()
        consumer = self._kafka
        self._committer = Committer(
            self.headrace,
            consumer.poller,
            batch_bytes_max=min(self.bytes_max.values()),
            on_failed=self._failed_soon,
            telemetry=self.telemetry,
            dry=self.dry,
        )
        self._memories = (Memories if self.dry is None else DryMemories)(
            self.pipeline,
            self.headrace,
            consumer.poller,
            bytes_max=self.bytes_max.get(self.headrace.state_topic, 0),
            folder=self._state_folder / self.headrace.group,
            lineage=self._lineage,
            on_restored=lambda seconds: self.telemetry.registry.observe("headrace_state_recovery_seconds", seconds),
        )
        self.add_future(self.health.beat())
        if self.shared is not None and self.dry is None:
            self.shared.begin(consumer.poller, folder=self._state_folder / self.headrace.group, lineage=self._lineage)
            self._listen("headrace-listener", Hearing(self.shared, self.pipeline, self.headrace))
        if self.monitoring is not None and self.dry is None:
            folder = self._state_folder / self.headrace.group
            self.monitoring.begin(consumer.poller, folder=folder, lineage=self._lineage)
            if self.monitoring.orders is not None and self.pipeline.obeys:
                self._listen("headrace-orders", self.monitoring.orders)
            self.add_future(self._say_recovering(self.monitoring, self._memories))
        if self._page is not None:
            self.add_future(self._page.beat())
        consumer.commits = self._committer
        consumer.scoring = lambda: self.scorer.busy
        consumer.on_watch = self._watch
        events, *others = self.pipeline.topics
        consumer.poller.leads = dict.fromkeys(others, events)
        await self._committer.start()

    def _listen(self, name: str, hears: Hears) -> None:
        self._listeners.append(Listener(name, hears, self.headrace, self._failed_elsewhere))
        self._listeners[-1].start()

    def stopping(self) -> None:
        """Wait for nothing that takes long: a stop was asked for."""
        if self._memories is not None:
            self._memories.give_up()
        if self.shared is not None:
            self.shared.give_up()
        if self.monitoring is not None:
            self.monitoring.give_up()
        for listener in self._listeners:
            listener.close()

    async def on_shutdown(self) -> None:
        """Let go of the producer, last of all."""
        await super().on_shutdown()
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            await self.loop.run_in_executor(None, listener.join, CRASH_SECONDS_MAX)
        if self._page is not None:
            await self._page.close()
        if self._memories is not None:
            await self._memories.close()
        if self.shared is not None:
            await self.shared.close()
        if self.monitoring is not None:
            await self.monitoring.close()
        if self._committer is not None:
            await self._committer.close()
        if self.traces is not None:
            await self.loop.run_in_executor(None, self.traces.close)

    async def wait_until_ready(self) -> None:
        """Return when partitions were assigned for the first time and events flow."""
        await self._kafka.resumed.wait()

    async def fail(self, error: BaseException) -> None:
        """End the worker with this error; what is not committed is done again by the next."""
        if self.failed is None:
            self.failed = error
        await self.crash(error)

    def _failed_soon(self, error: BaseException) -> None:
        asyncio.ensure_future(self.fail(error), loop=self.loop)  # noqa: RUF006 - it ends the loop

    def _failed_elsewhere(self, error: BaseException) -> None:
        self.loop.call_soon_threadsafe(self._failed_soon, error)

    def standing(self) -> Standing:
        """Return how the worker stands, for whoever asks whether it is well."""
        if self._committer is None or self._memories is None:
            return Standing(assigned=False, producer=False, broker=False)
        consumer = self._kafka
        return Standing(
            assigned=consumer.resumed.is_set(),
            rebalancing=bool(self.rebalancing),
            recovering=tuple(sorted(self._recovering)),
            producer=self._committer.has_producer,
            broker=consumer.poller.hears_broker,
        )

    @property
    def _recovering(self) -> set[int]:
        """The partitions of which a memory is being made again, be it a learner that all share, or what is usual."""
        more = [one.memories for one in (self.shared, self.monitoring) if one is not None]
        return {number for one in (self._memories, *more) if one is not None for number in dict(one.recovering)}

    def _add_metrics(self) -> None:
        @self.page("/metrics", name="metrics")
        async def metrics(view: Any, request: Any) -> Any:  # noqa: ARG001
            """Say what was counted, in Prometheus' text format."""
            text = await self.metrics()
            return view.bytes(text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def metrics(self) -> str:
        """Return the metrics as of now, in Prometheus' text format."""
        await self.look()
        return self.telemetry.registry.text()

    async def look(self) -> None:
        """Look up what is not counted as it happens, for whoever wants the metrics.

        What is in a partition's state is looked up between two steps. While one takes long, that is as it was when
        somebody asked before.
        """
        telemetry, registry = self.telemetry, self.telemetry.registry
        if self._committer is not None and self._memories is not None:
            telemetry.count_steps()
            memories = self._memories
            if not await self.scorer.between_steps(lambda: telemetry.look_at(memories.states), LOOK_SECONDS_MAX):
                log.debug("a step takes long; what is in the state is told as it was")
            if self._looking is None or self._looking.done():
                looking = telemetry.look_at_quality(lambda: memories.states, self._between_steps)
                self._looking = asyncio.ensure_future(looking)
            poller, lag, recovering = self._kafka.poller, dict(self.health.lag), dict(self._memories.recovering)
            telemetry.look_at_partitions(
                lag, self._oldest(lag), stalled=len(self.health.red), buffered=poller.buffered, now=time.time()
            )
            commits: dict[Labels, float] = {
                ("committed",): self._committer.commits,
                ("aborted",): self._committer.aborts,
            }
            registry.replace("headrace_commits_total", commits)
            registry.set("headrace_rebalances_total", poller.generation)
            left: dict[Labels, float] = {(str(number),): changes for number, changes in recovering.items()}
            registry.replace("headrace_state_recovery_remaining_records", left)
        for probe, answer in self.health.answers().items():
            registry.set("headrace_health", int(answer.well), probe)
        registry.set("headrace_event_loop_delay_seconds", self.health.delay)

    async def _between_steps(self, look: Callable[[], None]) -> bool:
        return await self.scorer.between_steps(look, LOOK_SECONDS_MAX)

    def _oldest(self, lag: dict[Place, int]) -> dict[Place, float]:
        """Return since when each partition's oldest record waits, of those that have any."""
        poller, found = self._kafka.poller, {}
        behind = time.time() - time.monotonic()
        for place, many in lag.items():
            partition = poller.partitions.get(place)
            if many > 0 and partition is not None:
                # One that is not here yet waits for as long as the partition has stood still, at the least.
                found[place] = poller.oldest(place) or partition.moved_at + behind
        return found

    def _watch(self, now: float) -> None:
        """Look at every partition's progress, on the poll thread: it runs whatever the event loop does."""
        poller = self._kafka.poller
        if poller.drained and now - self._gave_back_at > GIVE_BACK_SECONDS:
            self._gave_back_at = now
            heap.give_back()
        stuck = None
        self.health.forget_all_but(list(poller.partitions))
        for place, partition in list(poller.partitions.items()):
            marks = poller.watermarks(place)
            lag = marks[1] - partition.done if marks and partition.done is not None else 0
            if self.health.observe(place, lag=lag, still_ms=(now - partition.moved_at) * 1_000):
                stuck = (place, lag)
        if stuck is not None:
            (topic, number), lag = stuck
            error = Stalled(
                f"{topic}[{number}] has {lag} records to score and has not moved for stall_exit_ms = "
                f"{self.headrace.stall_exit_ms}; the worker ends, and what was not committed is scored again"
            )
            self.loop.call_soon_threadsafe(self._failed_soon, error)
            # A loop that hangs inside a step never hears of it.
            threading.Thread(target=_end_anyway, args=(error,), daemon=True).start()


def _end_anyway(error: Stalled) -> None:
    time.sleep(CRASH_SECONDS_MAX)
    log.critical("%s: %s", error.code, error)
    os._exit(error.exit_code)
