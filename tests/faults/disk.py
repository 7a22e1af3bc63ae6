"""A worker's own disk that can be filled and emptied again, in two ways."""

import resource
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from faults.worker import Worker

SMALL_KB = 2_048
LARGEST_KB = 24  # less than a snapshot has, and more than a worker says
FULL = {"FAULTS_DISK": "full"}  # in the environment of a start: the disk is full from the beginning


class SmallDisk:
    """A small file system that only the worker sees, in a namespace of its own. It goes with the process."""

    told = "No space left on device"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        mount = (
            f'mount -t tmpfs -o size={SMALL_KB}k,mode=700 none "$0"\n'
            '[ -z "$FAULTS_DISK" ] || head -c 1G /dev/zero > "$0/ballast" || true\n'
            'exec "$@"'
        )
        self.within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", mount, str(folder)]

    @property
    def missing(self) -> str:
        """What this machine does not have, or does not let us do."""
        if shutil.which("unshare") is None:
            return "there is no unshare (util-linux)"
        tried = subprocess.run([*self.within, "true"], capture_output=True, text=True, check=False)
        return f"a process may have no file system of its own here: {tried.stderr.strip()}" if tried.returncode else ""

    def folder(self, worker: Worker) -> Path:
        """The worker's state folder, as we see it."""
        return Path(f"/proc/{worker.pid}/root{self._folder}")

    def fill(self, worker: Worker) -> None:
        """Leave no room."""
        with (self.folder(worker) / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4_096))

    def free(self, worker: Worker) -> None:
        """Make room again."""
        (self.folder(worker) / "ballast").unlink()


class SizeLimit:
    """A limit on how large a file may become, which every process may set for its children."""

    told = "File too large"
    missing = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        limit = f'[ -z "$FAULTS_DISK" ] || ulimit -S -f {2 * LARGEST_KB}\nexec "$@"'
        self.within = ["sh", "-ec", limit, "sh"]

    def folder(self, worker: Worker) -> Path:
        """The worker's state folder, as we see it."""
        assert worker.alive
        return self._folder

    def fill(self, worker: Worker) -> None:
        """Leave no room for what is larger than what a worker says."""
        self._limit(worker, LARGEST_KB * 1_024)

    def free(self, worker: Worker) -> None:
        """Make room again."""
        self._limit(worker, resource.getrlimit(resource.RLIMIT_FSIZE)[0])

    def _limit(self, worker: Worker, size: int) -> None:
        _, most = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, most))


def files(folder: Path) -> dict[str, int]:
    """When each snapshot that a worker has on disk was written, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.state")}
