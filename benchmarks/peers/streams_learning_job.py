"""Kafka Streams with the whole job: becomes the Java process that was built from peers/streams.

The garbage collector of the tuned one is for throughput and its heap does not grow; otherwise Java as it comes.
"""

import os
import shutil
import sys
from pathlib import Path

LIBRARIES = Path(__file__).resolve().parent / "streams" / "target" / "lib"


def main():
    java = shutil.which("java")
    given = sys.argv[1:]
    flags = ["-XX:+UseParallelGC", "-Xms1g", "-Xmx1g"] if "--tuned" in given else []
    flags += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    os.execv(java, [java, *flags, "-cp", f"{LIBRARIES}/*", "bench.Job", *given])  # the same process, to be measured


if __name__ == "__main__":
    main()
