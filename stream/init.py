"""``headrace init``: a project that runs and has a passing test, to begin from."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from headrace.schemas.errors import BadFile
from headrace.stream import terminal
from headrace.stream.drift import REFERENCE
from headrace.stream.shows import SHOWS

EVENT_COUNT = 200


class Template(NamedTuple):
    """An example that a project begins as."""

    example: str  # whose pipeline, and whose events
    number: str  # a field of the event that its test leaves out
    what: str  # is scored, in the plural


TEMPLATES = {
    "fraud": Template("fraud", "amount", "payments with a card"),
    "clicks": Template("ctr", "slot", "items that users are shown"),
}

_TEST = '''\
"""The pipeline without a broker: records go through the code that a worker runs."""

import json
from pathlib import Path

from headrace.testing import Driver
from pipeline import pipeline

EVENTS = [json.loads(line) for line in Path(__file__).parents[1].joinpath("events.jsonl").read_text().splitlines()]


def test_every_event_has_a_score():
    driver = Driver(pipeline)
    driver.pipe_all(EVENTS)
    assert [made["id"] for made in driver.predictions] == [event["id"] for event in EVENTS]
    assert all(0 <= made["score"] <= 1 for made in driver.predictions)


def test_an_event_that_lacks_a_field_is_a_dead_letter():
    driver = Driver(pipeline)
    driver.pipe(json.dumps({{name: value for name, value in EVENTS[0].items() if name != "{number}"}}).encode())
    assert [letter.reason for letter in driver.dead_letters] == ["missing_field"]


def test_what_was_committed_survives_a_crash():
    driver = Driver(pipeline, auto_commit=False)
    driver.pipe_all(EVENTS[:100])
    driver.commit()
    driver.pipe_all(EVENTS[100:])
    driver.pipe_all(driver.crash())
    driver.commit()
    assert len(driver.predictions) == len(EVENTS)
'''

_MAKEFILE = """\
PYTHON ?= python3

.PHONY: test demo score run

test:  ## the pipeline in tests, without a broker
\t$(PYTHON) -m pytest -q

demo:  ## the example that this project began as, at work on a broker inside the process
\theadrace demo {example} --seconds 20

score:  ## this pipeline on the sample of events
\theadrace score . events.jsonl

run:  ## this pipeline on the broker that headrace.toml names
\theadrace doctor .
\theadrace run .
"""

_PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["headrace"]

[project.optional-dependencies]
test = ["headrace[testing]"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

_TOML = """\
# Options of the worker; headrace config lists them all, headrace config show says where each comes from.
broker = "127.0.0.1:9092"
group = "{name}"
"""

_README = """\
# {name}

Scores {what}, with [pipeline.py](pipeline.py): the events, the features, the models. Begun with
`headrace init {name} --template {template}`.

```sh
make test                       # the pipeline in tests, without a broker
headrace demo {example}         # the example that it began as, at work
headrace score . events.jsonl   # this pipeline on the sample of events
headrace dev . --embedded       # this pipeline at work, and anew whenever it is saved
headrace doctor .               # what is wrong before the start, on the broker of headrace.toml
headrace run .
```

`events.jsonl` is a sample of made-up events. Change the class of the events in `pipeline.py` to what your producers
write, the features to what you know, and the weights to what you trained.
"""


def main(name: str, *, template: str) -> int:
    """Make the project, and say what can be done with it."""
    folder = Path(name)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", folder.name):
        raise BadFile(f"{name}: a project's name begins with a letter or digit, and has letters, digits and ._-")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadFile(f"{folder}: is there already, and not empty; nothing was written")
    chosen = TEMPLATES[template]
    try:
        for path, text in contents(folder.name, template, chosen).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    except OSError as error:
        raise BadFile(f"{error.filename}: {error.strerror}") from error
    terminal.line(f"{folder}: a pipeline that scores {chosen.what}, its test and a sample of events. Next:")
    terminal.line()
    for command, why in (
        (f"cd {folder} && make test", "the pipeline in tests, without a broker"),
        (f"headrace demo {chosen.example}", "the example that it began as, at work"),
        ("headrace score . events.jsonl", "this pipeline on the sample"),
        ("headrace dev . --embedded", "this pipeline at work, and anew whenever you save it"),
    ):
        terminal.line(f"    {command:34}# {why}")
    return 0


def contents(name: str, template: str, chosen: Template) -> dict[str, str]:
    """Return the files of the project, by their paths."""
    example = files(f"headrace.examples.{chosen.example}")
    source = example.joinpath("pipeline.py").read_text()
    source = source.replace(f'    name="{chosen.example}",', f'    name="{name}",')
    source = re.sub(
        r"# As examples/\S+ fits them\.", "# As the example's training fitted them: put yours here.", source
    )
    source = re.sub(r": examples/\S+ learns them\.", ": headrace drift learn makes it of yours.", source)
    said = {"name": name, "template": template, **chosen._asdict()}
    texts = {
        "tests/test_pipeline.py": _TEST,
        "Makefile": _MAKEFILE,
        "pyproject.toml": _PYPROJECT,
        "headrace.toml": _TOML,
        "README.md": _README,
    }
    written = {path: text.format(**said) for path, text in texts.items()}
    usual = example.joinpath(REFERENCE)
    if usual.is_file():
        written[REFERENCE] = usual.read_text()  # what the pipeline's events are compared with
    return {"pipeline.py": source, "events.jsonl": sample(chosen.example), **written}


def sample(example: str) -> str:
    """Return made-up events, a line each: the same in every call."""
    show = SHOWS[example](2 * EVENT_COUNT, "changes")
    lines = []
    for topic, record in show.records:
        if topic == show.events:
            lines.append(json.dumps(record) + "\n")
        if len(lines) == EVENT_COUNT:
            break
    return "".join(lines)
