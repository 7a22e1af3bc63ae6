"""A virtual environment for each peer: their dependencies do not fit together."""

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

from contestants import HERE

INSTALL_SECONDS_MAX = 900


class NotInstalled(Exception):
    """A peer cannot be installed here; the text is pip's reason."""


def python_of(peer: str | None) -> Path:
    """Return the peer's interpreter, after installing its pinned requirements the first time."""
    if peer is None:
        return Path(sys.executable)
    folder = HERE / ".venvs" / peer
    python = folder / "bin" / "python"
    requirements = HERE / f"requirements-{peer}.txt"
    wanted = f"{sys.version}\n{hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    stamp = folder / "headrace-bench"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing {peer} from {requirements.name} (the first time only)", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    try:
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"pip did not finish within {INSTALL_SECONDS_MAX} s") from error
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled(reasons[-1] if reasons else f"pip ended with {done.returncode}")
    stamp.write_text(wanted)  # last, so that an interrupted install is done again
    return python


def versions(python: Path) -> dict[str, str]:
    """Return what is installed beside ``python``, for the record."""
    done = subprocess.run(
        [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    found = json.loads(done.stdout) if done.returncode == 0 else []
    return {"python": sys.version.split()[0], **{row["name"]: row["version"] for row in found}}
