"""An environment for each peer: their dependencies do not fit together."""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from contestants import HERE

INSTALL_SECONDS_MAX = 900


class NotInstalled(Exception):
    """A peer cannot be installed here; the text is the reason that pip or Maven gave."""


def python_of(peer: str | None) -> Path:
    """Return the interpreter that runs a peer's script, after installing what it needs the first time.

    What comes through pip stands in requirements-PEER.txt, and in requirements-PEER-anyway.txt where a pin of
    somebody else forbids what works all the same. What comes through Maven stands in peers/PEER/pom.xml.
    """
    if peer is None:
        return Path(sys.executable)
    if (HERE / "peers" / peer / "pom.xml").is_file():
        _build(HERE / "peers" / peer)
    return _virtual(peer) if _requirements(peer) else Path(sys.executable)


def versions(peer: str | None, python: Path) -> dict[str, str]:
    """Return what a peer runs with, for the record."""
    jars = (HERE / "peers" / peer / "target" / "lib").glob("*.jar") if peer else ()
    found = {name: version for name, _, version in (jar.stem.rpartition("-") for jar in sorted(jars))}
    if peer is None or _requirements(peer):
        command = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        found |= {row["name"]: row["version"] for row in (json.loads(done.stdout) if done.returncode == 0 else [])}
    return {"python": sys.version.split()[0], **found}


def _requirements(peer):
    return [path for path in (HERE / f"requirements-{peer}{end}.txt" for end in ("", "-anyway")) if path.is_file()]


def _virtual(peer):
    folder = HERE / ".venvs" / peer
    python = folder / "bin" / "python"
    requirements = _requirements(peer)
    stamp, wanted = folder / "headrace-bench", f"{sys.version}\n{_digest(requirements)}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing {peer} from {requirements[0].name} (the first time only)", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    for path in requirements:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", path]
        _run([*command, *(["--no-deps"] if path.stem.endswith("-anyway") else [])])
    stamp.write_text(wanted)  # last, so that an interrupted install is done again
    return python


def _build(folder):
    sources = [folder / "pom.xml", *sorted(folder.glob("src/**/*.java"))]
    stamp, wanted = folder / "target" / "headrace-bench", _digest(sources)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise NotInstalled("it needs Java 17 and Maven")
    print(f"building peers/{folder.name} with Maven (the first time only)", flush=True)
    shutil.rmtree(folder / "target", ignore_errors=True)
    _run([maven, "--quiet", "--batch-mode", "package"], cwd=folder)
    stamp.write_text(wanted)


def _digest(paths):
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _run(command, cwd=None):
    tool = Path(command[0]).name
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{tool} did not finish within {INSTALL_SECONDS_MAX} s") from error
    if done.returncode:
        said = (done.stderr + done.stdout).splitlines()
        reasons = [line for line in said if "ERROR" in line]
        raise NotInstalled(reasons[0] if reasons else f"{tool} ended with {done.returncode}")
