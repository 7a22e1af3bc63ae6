"""PyFlink with the whole job: Kafka tables at both ends, a KeyedProcessFunction between them, exactly once.

Python runs in Flink's own process (threads mode), which is the fastest that PyFlink has for one event at a time. The
function is keyed by partition: windows are in a map of cards, and what the learner knows is in a value, both in
Flink's keyed state and so in its checkpoints. The River object stays in memory, or it would be built again for each
event, and what it knows is put into the state after each event.
"""

import os
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The Python inside Flink's process knows neither this folder nor that it is in a virtual environment.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), sysconfig.get_path("purelib")])

from flink_function import Learning  # noqa: E402
from pyflink.common import Configuration, Types  # noqa: E402
from pyflink.datastream import StreamExecutionEnvironment  # noqa: E402
from pyflink.table import StreamTableEnvironment  # noqa: E402
from scoring import arguments  # noqa: E402

KAFKA = "'connector'='kafka', 'topic'='{topic}', 'properties.bootstrap.servers'='{broker}'"


def main():
    options = arguments(__doc__)
    latency = options.tuned_for == "latency"
    settings = {
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "pipeline.jars": ";".join(path.as_uri() for path in (HERE / "flink" / "target" / "lib").glob("*.jar")),
        "parallelism.default": "1",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": "100ms" if latency else "1s",
        "execution.checkpointing.dir": Path(options.state_dir).as_uri(),
        "execution.buffer-timeout.interval": "1ms" if latency else "100ms",
        "pipeline.object-reuse": "true",
    }
    configuration = Configuration()
    for name, value in settings.items():
        configuration.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    tables = StreamTableEnvironment.create(environment)
    source = KAFKA.format(topic=options.in_topic, broker=options.broker)
    tables.execute_sql(
        f"""CREATE TABLE transactions (payload STRING, number INT METADATA FROM 'partition' VIRTUAL) WITH (
            {source}, 'format'='raw', 'properties.group.id'='{options.group}',
            'scan.startup.mode'='earliest-offset'
        )"""
    )
    sink = KAFKA.format(topic=options.out_topic, broker=options.broker)
    tables.execute_sql(
        f"""CREATE TABLE predictions (card STRING, payload STRING) WITH (
            {sink}, 'key.format'='raw', 'key.fields'='card', 'value.format'='raw',
            'value.fields-include'='EXCEPT_KEY', 'sink.delivery-guarantee'='exactly-once',
            'sink.transactional-id-prefix'='{options.group}', 'properties.transaction.timeout.ms'='60000',
            'properties.linger.ms'='{0 if latency else 20}', 'properties.batch.size'='262144'
        )"""
    )
    made = (
        tables.to_data_stream(tables.from_path("transactions"))
        .key_by(lambda row: row[1], key_type=Types.INT())
        .process(Learning(), output_type=Types.ROW_NAMED(["card", "payload"], [Types.STRING(), Types.STRING()]))
    )
    statements = tables.create_statement_set()
    statements.add_insert("predictions", tables.from_data_stream(made))
    statements.attach_as_datastream()
    environment.execute()


if __name__ == "__main__":
    main()
