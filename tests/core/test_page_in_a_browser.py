"""The page as a person has it: a real Chromium looks at a running demo."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import confluent_kafka
import msgspec
import pytest
from faults.tools import lacking

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState, Evidence, Severity
from headrace.stream.broker import free_port
from headrace.stream.monitoring import unpacked

OUT = Path(__file__).resolve().parents[2] / "benchmarks/out/page"  # what it looks like, for a person to look at
SECONDS_MAX = 60
VIEWPORTS = {"wide": (1280, 900), "phone": (390, 844)}
SERIOUS = {"serious", "critical"}
HOSTILE = "<img src=x onerror=alert(1)>"

ALERT = Alert(
    id="drift-amount-1",
    at=1_700_000_000.0,
    kind="drift",
    state=AlertState.RAISED,
    severity=Severity.HIGH,
    text=f"amount moved {HOSTILE}",
    series="amount",
    slice="merchant=m7",
    explained_by=["country=FR"],
    evidence=Evidence(
        bins=["below 1", "1 to 10", "10 to 100", "100 and more"],
        reference=[0.1, 0.4, 0.4, 0.1],
        current=[0.05, 0.2, 0.45, 0.3],
        reference_count=120_000,
        current_count=2_400,
        distances={"psi": 0.41},
    ),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start a Chromium that can be steered."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        lacking("chromium is not installed, and it looks at the page: install the package chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed, and it steers chromium: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        # Its sandbox wants another user than root, which containers have not; it opens pages of ours alone.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


class Demo:
    """A demo that runs: where its page is, and where its broker is."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, broker: str) -> None:
        self.process = process
        self.url = url
        self.broker = broker


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    command = [sys.executable, "-m", "headrace.stream.cli", "demo", "--rate", "200"]
    command += ["--set", f"web_port={free_port()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "a second go in" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            broker, url = re.search(r"answers on (\S+);", said), re.search(r"http://\S+/", said)
            assert broker, said
            assert url, said
            yield Demo(process, url[0], broker[1])
        finally:
            process.terminate()
            process.communicate(timeout=60)


class Seen:
    """A page in a browser, with everything that it asked for and complained of."""

    def __init__(self, browser: Any, url: str, *, viewport: str = "wide", scheme: str = "light") -> None:
        width, height = VIEWPORTS[viewport]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda one: self.complaints.append(one.text) if one.type == "error" else None)
        self.page.on("dialog", lambda one: self.complaints.append(f"a dialog: {one.message}"))
        self.page.goto(url)
        self.page.wait_for_selector("body[data-number]", timeout=SECONDS_MAX * 1_000)

    def numbers(self) -> dict[str, str]:
        """Return the counters as they are shown."""
        told = self.page.eval_on_selector_all(
            "[data-number]:not(body), [data-reason]",
            "all => all.map(one => [one.dataset.number ?? 'reason ' + one.dataset.reason, one.textContent])",
        )
        return dict(told)


@pytest.fixture
def look(chromium: Any) -> Iterator[Callable[..., Seen]]:
    """Open a page; in the end nothing may have gone wrong with it, and nothing may have left this host."""
    opened: list[Seen] = []

    def open_page(url: str, **how: str) -> Seen:
        opened.append(Seen(chromium, url, **how))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()
        assert one.complaints == []
        assert {urlsplit(url).hostname for url in one.asked if not url.startswith("data:")} == {"127.0.0.1"}
        assert {urlsplit(url).query for url in one.asked if not url.startswith("data:")} == {""}, "no data in addresses"


def _until(happened: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS_MAX
    while not (found := happened()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def _inject(broker: str, *records: tuple[str, bytes, bytes]) -> None:
    client = confluent_kafka.Producer({"bootstrap.servers": broker, "log_level": 0})
    for topic, key, value in records:
        client.produce(topic, value, key)
    assert client.flush(30) == 0


# One glance at the page takes what is drawn and the data of the same moment.
GLANCE = """async () => {
  const data = await (await fetch('/page/data')).json();
  return document.body.dataset.number === String(data.number) ? data : null;
}"""


def test_the_numbers_move_and_are_those_of_the_data(demo: Demo, look: Callable[..., Seen]) -> None:
    _inject(demo.broker, ("transactions", b"c-1", b"{ no json"), ("transactions", b"c-1", b'{"id": "x"}'))
    seen = look(demo.url)
    first = seen.numbers()
    _until(lambda: seen.numbers()["predictions_total"] != first["predictions_total"])
    _until(lambda: "reason not_json" in seen.numbers())

    def compared() -> bool:
        data = seen.page.evaluate(GLANCE)
        if data is None:
            return False
        shown = seen.numbers()
        if seen.page.evaluate("document.body.dataset.number") != str(data["number"]):
            return False  # it was drawn anew meanwhile
        totals = data["totals"]
        wanted = {
            "predictions_total": totals["headrace_predictions_total"][""],
            "events_total": totals["headrace_events_consumed_total"]["transactions"],
        }
        wanted |= {f"reason {one}": many for one, many in totals["headrace_dead_letters_total"].items() if many}
        assert shown == {name: f"{round(many):,}" for name, many in wanted.items()}
        return True

    _until(compared)
    # The same numbers are in /metrics, which may be a moment later.
    before = int(seen.numbers()["predictions_total"].replace(",", ""))
    text = seen.page.evaluate("async () => (await fetch('/metrics')).text()")
    counted = re.search(r"^headrace_predictions_total (\d+)$", text, re.MULTILINE)
    assert counted is not None
    after = _until(lambda: int(seen.numbers()["predictions_total"].replace(",", "")) >= int(counted[1]))
    assert before <= int(counted[1])
    assert after


def test_a_worker_tells_the_pages_of_others_that_it_makes_nothing_again(demo: Demo) -> None:
    reader = confluent_kafka.Consumer({"bootstrap.servers": demo.broker, "group.id": "judge", "log_level": 0})
    reader.assign([confluent_kafka.TopicPartition("headrace-demo-slices", 0, 0)])
    _until(lambda: (one := reader.poll(0.2)) and unpacked(one.value()).get("recovering") == [])
    reader.close()


def test_an_alert_appears_is_acknowledged_by_a_click_and_goes_when_it_is_cleared(
    demo: Demo, look: Callable[..., Seen]
) -> None:
    seen, other = look(demo.url), look(demo.url, viewport="phone")
    _inject(demo.broker, ("alerts", ALERT.id.encode(), msgspec.json.encode(ALERT)))
    item = f'[data-alert="{ALERT.id}"]'
    for one in (seen, other):
        one.page.wait_for_selector(item, timeout=SECONDS_MAX * 1_000)
        assert HOSTILE in one.page.inner_text(item), "text is text"
        one.page.wait_for_selector("#drift figure")
    assert "merchant=m7" in seen.page.inner_text("#drift figure h3")
    seen.page.focus(f"{item} button")
    seen.page.keyboard.press("Enter")
    seen.page.fill("#by", "ada")
    seen.page.fill("#note", f"a new shop {HOSTILE}")
    seen.page.click("#send")
    for one in (seen, other):  # who did not click hears of it from the topic
        one.page.wait_for_selector(f"{item} .seen", timeout=SECONDS_MAX * 1_000)
        assert "by ada" in one.page.inner_text(f"{item} .seen")
        assert one.page.query_selector(f"{item} button") is None
    reader = confluent_kafka.Consumer({"bootstrap.servers": demo.broker, "group.id": "judge", "log_level": 0})
    reader.assign([confluent_kafka.TopicPartition("acknowledgements", number, 0) for number in range(4)])
    record = _until(lambda: reader.poll(0.2))
    reader.close()
    assert record.key() == ALERT.id.encode()
    said = msgspec.json.decode(record.value(), type=Acknowledgement)
    assert (said.id, said.by, said.note) == (ALERT.id, "ada", f"a new shop {HOSTILE}")
    cleared = msgspec.structs.replace(ALERT, state=AlertState.CLEARED)
    _inject(demo.broker, ("alerts", ALERT.id.encode(), msgspec.json.encode(cleared)))
    for one in (seen, other):
        one.page.wait_for_selector(item, state="detached", timeout=SECONDS_MAX * 1_000)


@pytest.mark.parametrize("viewport", list(VIEWPORTS))
def test_everybody_can_read_it_on_every_screen_by_day_and_by_night(
    demo: Demo, look: Callable[..., Seen], viewport: str
) -> None:
    one = msgspec.structs.replace(ALERT, id=f"drift-amount-{viewport}")
    _inject(demo.broker, ("alerts", one.id.encode(), msgspec.json.encode(one)))
    seen = look(demo.url, viewport=viewport)
    parts = "#scores figure", "#watched-one figure", "#drift figure", "#predictions tr", "#quality-table tr"
    for part in (f'[data-alert="{one.id}"]', *parts):
        seen.page.wait_for_selector(part, timeout=SECONDS_MAX * 1_000)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it does not fit"
    _look_at_what_is_watched(seen.page)
    OUT.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back)[:3])) / 3 > 128) == (scheme == "light")
        seen.page.screenshot(path=str(OUT / f"{viewport}-{scheme}.png"), full_page=True)
        # What it is made of is the same by day and by night; its colours are not.
        assert _faults(seen.page, None if scheme == "light" else ["color-contrast"]) == []
    seen.page.click(f'[data-alert="{one.id}"] button')
    assert _faults(seen.page, None, "dialog") == []
    seen.page.keyboard.press("Escape")
    assert seen.page.query_selector("dialog[open]") is None


def _look_at_what_is_watched(page: Any) -> None:
    """By the keyboard: the numbers of a series are those of the data, and it stays the one that is looked at."""
    page.focus("#watched-pick")
    page.keyboard.type("night")
    page.keyboard.press("Enter")
    _until(lambda: page.inner_text("#watched-one h3") == "night")

    def compared() -> bool:
        data = page.evaluate(GLANCE)
        (told,) = [one for one in data["watched"]["series"] if one["series"] == "night"] if data else [None]
        if told is None:
            return False
        cells = page.eval_on_selector_all("#watched tbody tr", "all => all.map(one => one.innerText.split('\\t'))")
        (row,) = [one for one in cells if one[0] == "night"]
        bins = page.eval_on_selector_all("#watched-bins tbody tr", "all => all.map(one => one.innerText.split('\\t'))")
        if row[6] != f"{told['current_count']:,}":
            return False  # it was drawn anew meanwhile
        assert float(row[3]) == pytest.approx(told["psi"], rel=0.1, abs=1e-4)
        assert [one[0] for one in bins] == told["bins"]
        for (_, usual, now), reference, current in zip(bins, told["reference"], told["current"], strict=True):
            assert float(usual.split()[0]) == pytest.approx(100 * reference, abs=0.5)
            assert float(now.split()[0]) == pytest.approx(100 * current, abs=0.5)
        return True

    _until(compared)
    assert page.evaluate("document.activeElement.id") == "watched-pick"


def _faults(page: Any, rules: list[str] | None, context: str | None = None) -> list[str]:
    """Return what shuts people out, as axe finds it."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        lacking("axe-playwright-python is not installed, and it judges the page: pip install -e '.[dev]'")
    options = None if rules is None else {"runOnly": {"type": "rule", "values": rules}}
    found = Axe().run(page, context, options).response
    assert found["passes"], "it looked at nothing"
    return [json.dumps(one) for one in found["violations"] if one["impact"] in SERIOUS]
