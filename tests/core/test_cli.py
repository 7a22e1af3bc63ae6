"""The command line: what is shown, what ends it, and that a mistake is told before any work is done."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.schemas.config import OPTIONS
from headrace.stream import cli

# Loaded by nothing but the work itself; each takes its time.
HEAVY = ("confluent_kafka", "faust", "numpy", "river")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the options of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)


def _ends(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_config_shows_every_option_with_its_value_and_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("config", "--set", "web_port=8080") == 0
    shown = capsys.readouterr().out
    for name, option in OPTIONS.items():
        assert f"\n{name} = " in f"\n{shown}"
        assert option.text in shown
    assert (
        "web_port = 8080\n    the port of the page, health and metrics; 0 takes a free one, -1 none [-1 to 65535]"
        in shown
    )
    assert "guarantee = exactly-once\n" in shown
    assert "[exactly-once, at-least-once]" in shown


def test_config_never_shows_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "kafka.sasl.password=hunter2", "--set", "kafka.security.protocol=SASL_SSL"]
    assert _ends("config", *given) == 0
    heard = capsys.readouterr()
    assert "kafka.sasl.password = ********" in heard.out
    assert "hunter2" not in heard.out + heard.err


def test_layers_are_file_then_environment_then_set_then_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def group(*arguments: str) -> str:
        assert _ends("config", *arguments) == 0
        return capsys.readouterr().out.split("\ngroup = ")[1].split("\n")[0]

    assert group() == ""
    (tmp_path / "headrace.toml").write_text('group = "file"')
    assert group() == "file"
    (tmp_path / "other.toml").write_text('group = "other"')
    assert group("--config", "other.toml") == "other"
    monkeypatch.setenv("HEADRACE_GROUP", "environment")
    assert group() == "environment"
    assert group("--set", "group=set") == "set"
    assert group("--set", "group=set", "--set", "group=later") == "later"
    assert group("--group", "flag", "--set", "group=set") == "flag"


def test_config_show_tells_where_each_value_is_from_and_is_a_file_of_options_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "headrace.toml").write_text('\ngroup = "fi\\"le"\nkafka.compression.type = "lz4"\n')
    monkeypatch.setenv("HEADRACE_WEB_PORT", "8080")
    given = ("--set", "batch_count_max=9", "--broker", "a:1", "--set", "broker=b:2")
    assert _ends("config", "show", *given) == 0
    shown = capsys.readouterr().out
    assert re.search(r'^group = "fi\\"le" +# headrace\.toml:2$', shown, flags=re.MULTILINE)
    assert re.search(r"^web_port = 8080 +# HEADRACE_WEB_PORT$", shown, flags=re.MULTILINE)
    assert re.search(r"^batch_count_max = 9 +# --set$", shown, flags=re.MULTILINE)
    assert re.search(r'^broker = "a:1" +# --broker, over "b:2" of --set$', shown, flags=re.MULTILINE)
    assert re.search(r"^linger_ms = 10 +# default$", shown, flags=re.MULTILINE)
    (tmp_path / "written.toml").write_text(shown)
    monkeypatch.delenv("HEADRACE_WEB_PORT")
    assert _ends("config", "--config", "written.toml") == 0
    again = capsys.readouterr().out
    assert "\nweb_port = 8080\n" in again
    assert "\nkafka.compression.type = lz4\n" in again


def test_config_show_as_json_has_an_object_a_line_and_masks_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "kafka.sasl.password=hunter2", "--set", "kafka.security.protocol=SASL_SSL"]
    assert _ends("config", "show", "--json", *given) == 0
    heard = capsys.readouterr().out
    rows = {row["name"]: row for row in map(json.loads, heard.splitlines())}
    assert set(OPTIONS) < set(rows)
    want = {"name": "kafka.sasl.password", "value": "********", "source": "--set", "over": []}
    assert rows["kafka.sasl.password"] == want
    assert "hunter2" not in heard


def test_config_schema_is_json_whatever_the_options_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("config", "schema", "--set", "web_port=x") == 0
    assert json.loads(capsys.readouterr().out)["properties"]["web_port"]["maximum"] == 65_535


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = f"{sys.executable} -m headrace.stream.cli config show | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in {"0", "141"}  # it may have been through before


def test_every_problem_is_told_and_the_code_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("run", "nowhere", "--set", "web_port=x", "--guarantee", "maybe", "--set", "grup=y") == 2
    assert capsys.readouterr().err == (
        "BAD_CONFIG: config cannot run (3 problems):\n"
        "  grup (--set): no such option; did you mean group?\n"
        "  guarantee = maybe (--guarantee): allowed are exactly-once, at-least-once\n"
        "  web_port = x (--set): not a whole number\n"
    )


def test_a_file_of_options_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("config", "--config", "no.toml") == 2
    want = "BAD_CONFIG: config cannot run (1 problem):\n  --config no.toml: no such file\n"
    assert capsys.readouterr().err == want


def test_a_file_of_options_that_nobody_named_may_be_missing() -> None:
    assert _ends("config") == 0


def test_a_file_of_options_that_is_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "options").mkdir()
    assert _ends("config", "--config", "options") == 2
    assert "  --config options: no such file\n" in capsys.readouterr().err


def test_a_pair_that_is_none_is_told_beside_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("config", "--set", "group", "--set", "web_port=x", "--guarantee", "maybe") == 2
    assert capsys.readouterr().err == (
        "BAD_CONFIG: config cannot run (3 problems):\n"
        "  group (--set): expected name=value, with one value\n"
        "  guarantee = maybe (--guarantee): allowed are exactly-once, at-least-once\n"
        "  web_port = x (--set): not a whole number\n"
    )


def test_a_pipeline_that_is_not_there_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends("run", "no/such/pipeline.py", "--log-format", "text") == 2
    want = (
        "BAD_PIPELINE: pipeline cannot run (1 problem):\n  no/such/pipeline.py: no such file, folder with a pipeline.py"
    )
    assert capsys.readouterr().err.startswith(want)


@pytest.mark.parametrize("arguments", [[], ["rnu"], ["run"], ["config", "--grup", "x"]])
def test_a_command_that_is_none_ends_with_two(arguments: list[str]) -> None:
    assert _ends(*arguments) == 2


def test_the_demo_promises_at_least_once_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    options = cli._parser().parse_args(["demo"])
    assert not cli._options(options, {}, guarantee="at-least-once").exactly_once
    options = cli._parser().parse_args(["demo", "--guarantee", "exactly-once"])
    assert cli._options(options, {}, guarantee="at-least-once").exactly_once


def test_a_wrong_option_is_told_before_anything_heavy_is_loaded() -> None:
    code = f"""
import sys
from headrace.stream import cli
try:
    cli.main(["run", "nowhere", "--set", "web_port=x"])
except SystemExit as ended:
    print(ended.code, sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("BAD_CONFIG: ")
    code_, loaded = done.stdout.split(" ", 1)
    assert code_ == "2"
    assert not {"confluent_kafka", "faust"} & set(eval(loaded)), loaded
