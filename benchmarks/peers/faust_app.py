"""Stock Faust as every job has it: the aiokafka transport, uvloop, Faust's own JSON codec (orjson).

Plain dictionaries and not ``faust.Record``: a Record per event costs more and gives these jobs nothing.
"""

import mode.loop

mode.loop.use("uvloop")  # before Faust, which makes its loop at import

import faust  # noqa: E402
from scoring import arguments  # noqa: E402

options = arguments(__doc__)
app = faust.App(
    options.group,
    broker=f"aiokafka://{options.broker}",
    datadir=options.state_dir,
    value_serializer="json",
    key_serializer="raw",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    topic_allow_declare=False,  # the topics are there
    web_enabled=False,
    stream_wait_empty=False,
    stream_buffer_maxsize=16_384,  # 4,096 by default: fewer pauses of the fetcher
    broker_max_poll_records=5_000,
    broker_commit_interval=0.1,  # as everybody else here
    producer_linger=0.005 if options.tuned_for == "throughput" else 0.0,
    producer_max_batch_size=262_144,
)
transactions = app.topic(options.in_topic)
predictions = app.topic(options.out_topic)


def run():
    """Run the agents that were made on ``app``."""
    faust.Worker(app, loglevel="WARN").execute_from_commandline()
