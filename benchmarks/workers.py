"""Runs the same command several times at once, as a group of workers; ends them when it is asked to.

python benchmarks/workers.py 2 headrace run ...
"""

import signal
import subprocess
import sys


def main(count, command):
    """Run them; return the first exit code that is not zero."""
    workers = [subprocess.Popen(command) for _ in range(count)]

    def stop(_number, _frame):
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    return max((worker.wait() for worker in workers), key=abs)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
