"""What can be wrong before a broker is asked: this Python, the options, the pipeline, its model, this machine."""

import contextlib
import os
import re
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from headrace.schemas.errors import BadConfig, BadModel, BadPipeline, HeadraceError
from headrace.stream.finding import Finding, Patient, fail, warn

PYTHON_MIN, PYTHON_TESTED = (3, 11), (3, 13)
DISK_BYTES_MIN, DISK_BYTES_FEW = 64 << 20, 1 << 30
FILES_MIN, FILES_FEW = 256, 1_024
# The module by which it shows that a library of an extra is used.
MODULES = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost"}


def python(_patient: Patient) -> Iterator[Finding]:
    """Look at Python and at what is installed."""
    here = sys.version_info[:2]
    if here < PYTHON_MIN:
        yield fail(
            "python-version", f"this is Python {here[0]}.{here[1]}", f"install {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer"
        )
    elif here > PYTHON_TESTED:
        tested = f"{PYTHON_MIN[0]}.{PYTHON_MIN[1]} to {PYTHON_TESTED[0]}.{PYTHON_TESTED[1]}"
        yield warn("python-version", f"Python {here[0]}.{here[1]} was not tested", f"tested are {tested}")


def dependencies(_patient: Patient) -> Iterator[Finding]:
    """Compare what is installed, and used, with the ranges that are tested."""
    for requirement in metadata.requires("headrace") or ():
        named = re.match(r"([\w.-]+)(\[[^]]*\])?([^;]*)(?:;(.*))?", requirement)
        assert named is not None
        name, ranges, condition = named[1], named[3].strip(), named[4] or ""
        if "extra" in condition and MODULES.get(name, name.replace("-", "_")) not in sys.modules:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if "extra" not in condition:
                yield fail("dependencies", f"{name} is not installed", f"pip install '{name}{ranges}'")
            continue
        if not _within(version, ranges):
            told = f"{name} {version} is installed, and {ranges} is what is tested"
            yield warn("dependencies", told, f"pip install '{name}{ranges}'")


def _within(version: str, ranges: str) -> bool:
    """Say whether a version is in a range.

    >>> _within("2.16.1", ">=2.16,<3"), _within("3.0", "<3,>=2.16"), _within("0.26.1rc1", ">=0.26.1")
    (True, False, True)
    """
    here = _numbers(version)
    for sign, bound in re.findall(r"(>=|<|==)\s*([\w.]+)", ranges):
        there = _numbers(bound)
        if not {">=": here >= there, "<": here < there, "==": here == there}[sign]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"(?:^|(?<=\.))\d+", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


# What is wrong with an option, by how it is told.
_OPTIONS = (
    ("config-file", r"not TOML|no such file"),
    ("config-unknown", r"no such option"),
    ("config-owned", r"not yours to set"),
    ("config-password", r"would travel in the clear"),
    ("config-client", r"librdkafka says"),
    ("config-value", r"\): (allowed are|not a whole number|expected name=value)| is empty: "),
    ("config-together", r""),
)


def config(patient: Patient) -> Iterator[Finding]:
    """Put the options together as a worker does."""
    try:
        found = patient.configured()
    except BadConfig as error:
        yield from _told(error.problems, _OPTIONS, "mend it where it was written; headrace config lists the options")
        return
    from headrace.stream import clients  # noqa: PLC0415 - late, as the clients take a moment

    try:
        clients.check(found if found.group else msgspec.structs.replace(found, group="doctor"))
    except BadConfig as error:
        yield from _told(error.problems, _OPTIONS, "docs/options.md has the properties that may be set")
        return
    patient.config = found


# What is wrong with a pipeline or its model, by how it is told.
_PIPELINES = (
    ("pipeline-file", r"no such file, folder with a pipeline\.py, or module"),
    ("pipeline-syntax", r": (SyntaxError|IndentationError|TabError): "),
    ("pipeline-one", r"(no Pipeline|\d+ pipelines) at its top level"),
    ("model-features", r"^(static|fallback) reads "),
    ("pipeline-import", r":\d+: \w+: "),
    ("pipeline-parts", r""),
)
_MODELS = (
    ("extras", r"pip install 'headrace\["),
    ("model-hash", r"its SHA-256 is"),
    ("model-golden", r"golden: |without golden rows"),
    ("model-folder", r"there is no manifest\.json|and the manifest names it|No such file"),
    ("model-features", r"features: "),
    ("model-file", r""),
)
_HINTS = {
    "pipeline-file": "name a Python file, a folder with a pipeline.py, or a module",
    "pipeline-syntax": "mend the line",
    "pipeline-import": "mend the line; if a module is missing, install it in the environment of the headrace command",
    "pipeline-one": "docs/features.md begins with a pipeline",
    "pipeline-parts": "mend the pipeline; everything that does not fit is listed",
    "model-features": "features of the pipeline and of the model have to have the same names",
    "extras": "install the extra that it names",
    "model-hash": "copy the folder again, whole",
    "model-golden": "save the model again with the libraries that serve it: headrace.save_static(..., golden=...)",
    "model-folder": "copy the folder to where the pipeline names it; save_static writes one",
    "model-file": "save the model again: headrace.save_static",
}


def pipeline(patient: Patient) -> Iterator[Finding]:
    """Load the pipeline, with its model."""
    from headrace.stream.load import load_pipeline  # noqa: PLC0415 - late, as it takes a moment

    try:
        # What the pipeline's own code prints is no part of a report.
        with contextlib.redirect_stdout(sys.stderr):
            patient.pipeline = load_pipeline(patient.path)
    except BadModel as error:
        yield from _told(error.problems, _MODELS, "")
    except BadPipeline as error:
        yield from _told(error.problems, _PIPELINES, "")
    except HeadraceError as error:
        yield fail("pipeline-import", f"{error.code}: {error}", "mend what it names")
    else:
        if patient.config is not None and not patient.config.group:
            patient.config = msgspec.structs.replace(patient.config, group=patient.pipeline.name)


def _told(problems: tuple[str, ...], kinds: tuple[tuple[str, str], ...], hint: str) -> Iterator[Finding]:
    for problem in problems:
        check = next(name for name, pattern in kinds if re.search(pattern, problem))
        yield fail(check, problem, hint or _HINTS[check])


def learner(patient: Patient) -> Iterator[Finding]:
    """Look at what makes a learner slow, or another in each process."""
    from headrace.models.frozen import unordered  # noqa: PLC0415 - late, as it takes a moment
    from headrace.models.kernels import compiled  # noqa: PLC0415

    chosen = os.environ.get("PYTHONHASHSEED", "random")
    online = patient.pipeline.online
    if online is None:
        return
    if chosen not in {"random", "0"} and unordered(online):
        yield warn(
            "hash-seed",
            f"PYTHONHASHSEED = {chosen}, and the learner goes through sets in an order that it decides",
            "give every worker of the group the same, or none: then it is 0",
        )
    if not compiled():
        yield warn(
            "learner-kernel",
            "the kernel that learns was not compiled: River itself learns, with the same results, and slower",
            "install a C compiler and Python's headers, and install headrace again",
        )


def machine(patient: Patient) -> Iterator[Finding]:
    """Look at the folder for files, the port and the limits that a worker here would have."""
    from headrace.stream import health  # noqa: PLC0415 - late, as it takes a moment
    from headrace.stream.run import state_folder  # noqa: PLC0415

    assert patient.config is not None
    yield from _folder(state_folder(patient.config))
    try:
        health.check_port(patient.config.web_port)
    except BadConfig as error:
        yield fail("web-port", error.problems[0], "set web_port to another, or to 0 for a free one")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_FEW:
        told = f"{soft} files may be open at a time, and each broker and each partition's file is one"
        finding = fail if soft < FILES_MIN else warn
        yield finding("open-files", told, f"raise it before the start: ulimit -n {FILES_FEW * 4}")


def _folder(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield fail("state-dir", f"no file can be made in {folder}: {there} does not allow it", "set state_dir")
        return
    if folder.exists() and (owner := folder.stat().st_uid) != os.geteuid():
        yield warn(
            "state-owner",
            f"{folder} belongs to user {owner}, and this is {os.geteuid()}",
            "run the worker as that user, or give it another state_dir: two users' workers would not see each other",
        )
    free = shutil.disk_usage(there).free
    if free < DISK_BYTES_FEW:
        finding = fail if free < DISK_BYTES_MIN else warn
        told = f"{free / (1 << 20):,.0f} MB are free for {folder}, where snapshots of what is remembered go"
        yield finding("disk-space", told, "free some, or set state_dir to another disk")


def names(patient: Patient) -> Iterator[Finding]:
    """Look at the addresses of the brokers, and at whether anybody has them."""
    from headrace.stream import probe  # noqa: PLC0415 - late, as the rest

    assert patient.config is not None
    found, wrong = probe.addresses(patient.config.broker)
    for part in wrong:
        yield fail("broker-address", f"broker = {part!r} is no address", "write host:port, separated by commas")
    for address in found:
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            yield fail(
                "broker-name", f"{address.host}: {error.strerror}", "look at the name, and at this machine's DNS"
            )
