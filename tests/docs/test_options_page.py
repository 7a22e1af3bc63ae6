"""docs/options.md has every option, and no other. ``python tests/docs/test_options_page.py`` writes its tables anew."""

import re
from pathlib import Path

import pytest

from headrace.schemas.config import KAFKA, OPTIONS, OWNED, configure, from_environment, from_pairs, from_toml
from headrace.stream import clients

PAGE = Path(__file__).resolve().parents[2] / "docs/options.md"
TOML = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def written(text: str) -> str:
    """Return the page with its two tables as the code has them now."""
    for name, table in (("options", _options()), ("owned", _owned())):
        between = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->\n)"
        text, count = re.subn(between, lambda found, table=table: found[1] + table + found[2], text, flags=re.DOTALL)
        assert count == 1, f"{PAGE.name} needs the marks <!-- {name} --> and <!-- end of {name} -->, once"
    return text


def _options() -> str:
    lines = ["| Option | Default | Allowed | What it is |", "| --- | --- | --- | --- |"]
    for name, option in OPTIONS.items():
        default = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
        allowed = ", ".join(f"`{value}`" for value in option.allowed)
        if isinstance(option.default, bool):
            allowed = "`true`, `false`"
        elif option.least is not None:
            allowed = f"{option.least} to {option.greatest}: {option.why}"
        shown = f"`{default}`" if default else "(empty)"
        lines.append(f"| `{name}` | {shown} | {allowed or 'text'} | {option.text} |")
    return "\n".join(lines) + "\n"


def _owned() -> str:
    lines = ["| Property | Why, or what to set |", "| --- | --- |"]
    lines += [f"| `{name}` | {_linked(reason)} |" for name, reason in OWNED.items()]
    return "\n".join(lines) + "\n"


def _linked(reason: str) -> str:
    return re.sub(r"^set (\w+)$", r"set `\1`", reason)


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    assert written(text) == text, "run: python tests/docs/test_options_page.py"


@pytest.mark.parametrize("text", TOML)
def test_an_example_in_toml_is_a_configuration_that_runs(text: str) -> None:
    # The password of an example comes from the environment.
    password = {"HEADRACE_KAFKA_SASL_PASSWORD": "secret"} if "sasl" in text else {}
    assert configure(from_toml(text, PAGE.name), from_environment(password))


def test_examples_are_found_and_set_properties_too() -> None:
    assert any(name.startswith(KAFKA) for text in TOML for name in from_toml(text, PAGE.name))


def test_properties_that_the_page_says_can_be_set_reach_a_client() -> None:
    text = PAGE.read_text()
    settable = re.findall(
        r"^\| `([a-z.]+)` \|", text[text.index("can be set") : text.index("With at-least-once")], flags=re.MULTILINE
    )
    assert len(settable) > 5
    for name in settable:
        config = configure(from_pairs([f"{KAFKA}{name}=777"]))
        given = [
            clients.consumer_settings(config).get(name),
            clients.producer_settings(config, transactional=True).get(name),
        ]
        assert "777" in given, name


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
