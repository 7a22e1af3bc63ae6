"""What the Dockerfile and docker-compose.yml say, and their services as processes of this machine.

There is no Docker where tests run. A service's own command, environment, files and health check are taken from
docker-compose.yml; names of hosts become loopback, each port that somebody listens on becomes a free one, and each
folder of a container one of the test.
"""

import http.client
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.stream.broker import free_port

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "headrace:local"
CHECK_SECONDS_MAX = 30


class Dockerfile:
    """The image, stage by stage: a list of instructions with what follows each."""

    def __init__(self, text: str) -> None:
        joined = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
        lines = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
        self.stages: list[list[tuple[str, str]]] = []
        for instruction, rest in lines:
            if instruction == "FROM":
                self.stages.append([])
            self.stages[-1].append((instruction, rest))

    @property
    def bases(self) -> list[str]:
        return [rest.split()[0] for stage in self.stages for instruction, rest in stage if instruction == "FROM"]

    def all(self, instruction: str, stage: int = -1) -> list[str]:
        return [rest for name, rest in self.stages[stage] if name == instruction]

    def one(self, instruction: str) -> str:
        (found,) = self.all(instruction)
        return found

    @property
    def environment(self) -> dict[str, str]:
        pairs = [word.partition("=") for rest in self.all("ENV") for word in shlex.split(rest)]
        return {name: value for name, _, value in pairs}

    @property
    def health(self) -> list[str]:
        command: list[str] = json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])
        return command

    @property
    def entrypoint(self) -> list[str]:
        words: list[str] = json.loads(self.one("ENTRYPOINT"))
        return words


def dockerfile() -> Dockerfile:
    return Dockerfile((ROOT / "Dockerfile").read_text())


def ours(composed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the services that run the image which this repository makes."""
    return {name: service for name, service in composed["services"].items() if service["image"] == IMAGE}


def workers(composed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in ours(composed).items() if (service["command"] or [""])[0] == "run"}


class Here:
    """The services on this machine: their commands and settings with ports and folders of the test."""

    def __init__(self, composed: Mapping[str, Any], folder: Path) -> None:
        self.services = composed["services"]
        self.image = dockerfile()
        self._folder = folder
        self._ports: dict[tuple[str, int], int] = {}

    def port(self, host: str, number: int) -> int:
        """Return the port that stands for one of a container's."""
        return self._ports.setdefault((host, number), free_port())

    def volume(self, name: str) -> Path:
        place = self._folder / "volumes" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def mounted(self, name: str) -> dict[str, str]:
        """Return the folder here for each folder in the container; the repository's are copies that may be changed."""
        found = {}
        for mount in self.services[name].get("volumes", ()):
            if mount["type"] == "volume":
                found[mount["target"]] = str(self.volume(mount["source"]))
            else:
                copy = self._folder / "mounted" / name / mount["target"].strip("/")
                if not copy.exists():
                    shutil.copytree(mount["source"], copy)
                found[mount["target"]] = str(copy)
        return found

    def said(self, name: str, text: str, ports: Iterable[int] = ()) -> str:
        """Return a text of a container as it is to be said here; ``ports`` are those that it has itself."""
        hosts = "|".join(map(re.escape, (*self.services, "localhost", "127.0.0.1")))
        text = re.sub(
            rf"(?<![\w.-])({hosts}):(\d+)",
            lambda found: f"127.0.0.1:{self.port(found[1] if found[1] in self.services else name, int(found[2]))}",
            text,
        )
        for number in ports:
            text = re.sub(rf"(?<=:){number}\b|^{number}$", str(self.port(name, number)), text)
        for there, here in sorted(self.mounted(name).items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(?<![\w/]){re.escape(there)}(?![\w-])", here, text)
        return text

    def environment(self, name: str, ports: Iterable[int] = ()) -> dict[str, str]:
        service = self.services[name]
        given = {key: value for key, value in (service.get("environment") or {}).items() if value is not None}
        if service["image"] == IMAGE:
            given = {key: value for key, value in self.image.environment.items() if key != "PATH"} | given
        return {key: self.said(name, value, ports) for key, value in given.items()}

    def command(self, name: str) -> list[str]:
        service = self.services[name]
        # What images that are not ours begin with is called as they are.
        begins = service.get("entrypoint") or (self.image.entrypoint if service["image"] == IMAGE else [name])
        words = [*begins, *(service["command"] or ())]
        return self.here([self.said(name, word) for word in words])

    def here(self, words: list[str]) -> list[str]:
        """Return a command with the programs of this environment."""
        if words[0] == "headrace":
            return [sys.executable, "-m", "headrace.stream.cli", *words[1:]]
        return [sys.executable, *words[1:]] if words[0] == "python" else words

    def healthy(self, name: str, test: list[str], environment: Mapping[str, str]) -> bool:
        """Run a health check as Docker would."""
        words = self.here([self.said(name, self._own(name, word)) for word in test])
        if shutil.which(words[0]) is None and words[-1].startswith("http://"):
            return _answers(words[-1])  # a tool of the container's, and not of this machine
        done = subprocess.run(words, env=dict(environment), capture_output=True, timeout=CHECK_SECONDS_MAX, check=False)
        return done.returncode == 0

    def _own(self, name: str, text: str) -> str:
        # /dev/tcp/HOST/PORT is how bash says HOST:PORT.
        return re.sub(
            r"/dev/tcp/127\.0\.0\.1/(\d+)", lambda found: f"/dev/tcp/127.0.0.1/{self.port(name, int(found[1]))}", text
        )


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CHECK_SECONDS_MAX)
    try:
        client.request("GET", parts.path)
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()
