"""Where a slice begins and ends: what a person may write, and what it means in partitions that differ."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.schemas.errors import BadSlice
from headrace.schemas.position import Asked, Position
from headrace.stream import cli
from headrace.stream.slice import Log, Slice, Span, cut

REMEMBERING = Path(__file__).resolve().parents[2] / "benchmarks" / "remembering"

LOGS = {0: Log(0, 100), 1: Log(40, 90), 2: Log(0, 0)}
EARLIEST, LATEST, COMMITTED = (Position.parsed(word) for word in ("earliest", "latest", "committed"))


def _cut(
    begin: str = "earliest",
    end: str = "latest",
    warm_up: str | None = "earliest",
    partitions: tuple[int, ...] = (),
    found: Mapping[str, Mapping[int, int]] | None = None,
    *,
    remembers: bool = True,
) -> Slice:
    warm = None if warm_up is None else Position.parsed(warm_up)
    asked = Asked("cards", Position.parsed(begin), Position.parsed(end), warm, partitions)
    return cut(asked, LOGS, lambda position: (found or {})[position.said], remembers=remembers)


def _problems(*arguments: Any, **named: Any) -> tuple[str, ...]:
    with pytest.raises(BadSlice) as raised:
        _cut(*arguments, **named)
    return raised.value.problems


@pytest.mark.parametrize(
    ("text", "offset", "time_ms"),
    [
        ("0", 0, None),
        ("999999999999999999", 10**18 - 1, None),
        ("@1970-01-01T00:00:00Z", None, 0),
        ("@2026-01-01", None, 1_767_225_600_000),
        ("@2026-01-01T01:00:00+01:00", None, 1_767_225_600_000),
        ("@2026-01-01T00:00:00.007", None, 1_767_225_600_007),
    ],
)
def test_a_position_is_an_offset_or_a_time(text: str, offset: int | None, time_ms: int | None) -> None:
    assert Position.parsed(text) == (text, offset, time_ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1e3",
        "1_000",
        "0x10",
        "\u0663",
        "1" * 19,
        "Latest",
        "@",
        "@12",
        "@1969-12-31",
        "2026-01-01",
        "@9999-12-31T23:59:59-23:00x",
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(allowed are|not a time|no record is)"):
        Position.parsed(text)


def test_without_a_word_a_slice_is_all_there_is() -> None:
    assert _cut().spans == (Span(0, 0, 0, 100), Span(1, 40, 40, 90)), "what is empty is left out"


def test_a_warm_up_begins_with_the_log_and_only_where_something_is_remembered() -> None:
    assert _cut("50", partitions=(0,)).spans == (Span(0, 0, 50, 100),)
    assert _cut("50", partitions=(0,), remembers=False).spans == (Span(0, 50, 50, 100),)
    assert _cut("50", warm_up=None, partitions=(0,)).spans == (Span(0, 50, 50, 100),)
    assert _cut("50", warm_up="20", partitions=(0,)).spans == (Span(0, 20, 50, 100),)


def test_a_time_is_where_its_first_record_is_and_else_the_end() -> None:
    found = {"@2026-01-01": {0: 30}, "@2026-01-02": {0: 60, 1: 50}}
    assert _cut("@2026-01-01", found=found).spans == (Span(0, 0, 30, 100),)
    assert _cut("@2026-01-01", "@2026-01-02", found=found).spans == (Span(0, 0, 30, 60),)
    assert _cut(end="@2026-01-02", found=found).spans == (Span(0, 0, 0, 60), Span(1, 40, 40, 50))


def test_committed_is_where_the_group_is_and_what_it_never_began_is_left_out() -> None:
    assert _cut(end="committed", found={"committed": {0: 70}}).spans == (Span(0, 0, 0, 70),)
    assert _cut("committed", found={"committed": {0: 70, 1: 10}}).spans == (Span(0, 0, 70, 100), Span(1, 40, 40, 90))
    assert _problems(end="committed", found={"committed": {}}) == (
        "committed: the group has no offsets of cards; --group names another",
    )


def test_a_past_that_is_not_whole_is_told_once_for_all_partitions() -> None:
    (note,) = _cut().notes
    assert note.startswith("the past is not whole: the log begins with cards[1] at 40;")
    assert _cut(warm_up="30", partitions=(1,)).notes, "the warm-up was to begin before what is there"
    assert not _cut(warm_up="50", begin="60", partitions=(1,)).notes, "a later warm-up is what was asked for"
    assert not _cut(partitions=(0,)).notes
    assert not _cut(remembers=False).notes


def test_every_offset_that_is_not_there_is_told() -> None:
    assert _problems("95", partitions=(3, 1)) == (
        "--partition 3: cards has the partitions 0 to 2",
        "--from 95: cards[1] has the offsets 40 to 90; --partition takes some partitions alone",
    )
    assert _problems("10", "200", partitions=(1,)) == (
        "--from 10: cards[1] has the offsets 40 to 90",
        "--to 200: cards[1] has the offsets 40 to 90",
    )
    assert _problems("50", warm_up="60", partitions=(0,)) == (
        "--warm-up 60: it begins at cards[0] offset 60, and the slice at 50",
    )


def test_a_slice_without_an_offset_is_no_slice() -> None:
    there = "cards[0] 0 to 100, cards[1] 40 to 90, cards[2] 0 to 0"
    assert _problems("latest") == (f"--from latest --to latest: nothing is between them; the offsets are: {there}",)
    assert _problems(partitions=(2,)) == (
        "--from earliest --to latest: nothing is between them; the offsets are: cards[2] 0 to 0",
    )


def test_a_slice_is_whole_when_nothing_was_before_it() -> None:
    logs = {0: Log(0, 10), 1: Log(0, 0)}

    def whole(asked: Asked) -> bool:
        return cut(asked, logs, lambda _: {0: 7}).whole

    assert whole(Asked("cards"))
    assert whole(Asked("cards", end=COMMITTED))
    assert not whole(Asked("cards", end=Position.parsed("@2026-01-01")))
    assert not whole(Asked("cards", partitions=(0,)))
    assert not cut(Asked("cards"), LOGS, lambda _: {}).whole


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("replay", "nowhere", "--from", "soon", "--to", "@noon", "--warm-up", "x", "--partition", "0", "-1"),
            "config cannot run (4 problems):\n"
            "  --from soon: allowed are an offset, a time as in @2026-01-31T12:00:00Z, earliest, latest, committed\n"
            "  --to @noon: not a time; write it as @2026-01-31T12:00:00Z\n"
            "  --warm-up x: allowed are an offset, a time as in @2026-01-31T12:00:00Z, earliest, latest, committed, "
            "none\n"
            "  --partition -1: partitions are counted from 0\n",
        ),
        (("parity", "nowhere", "--from", "9", "--to", "9"), "  --from 9 --to 9: nothing is between them\n"),
        (("replay", "nowhere", "--rate", "0"), "  --rate 0: allowed is a number above zero\n"),
        (("replay", "nowhere", "--speed", "fast"), "  --speed fast: allowed is a number above zero\n"),
    ],
)
def test_what_cannot_be_a_slice_is_told_before_a_broker_is_asked(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("command", ["replay", "parity"])
def test_a_broker_that_is_not_there_is_told(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from headrace.stream import slice as ours

    monkeypatch.setattr(ours, "ANSWER_SECONDS_MAX", 0.5)
    with pytest.raises(SystemExit) as ended:
        cli.main([command, str(REMEMBERING), "--broker", "127.0.0.1:1"])
    assert ended.value.code == 3
    assert "BROKER_NOT_AVAILABLE: no answer from 127.0.0.1:1 (" in capsys.readouterr().err


def test_a_broker_that_goes_away_while_it_is_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.records import config_of

    from headrace.schemas.errors import BrokerNotAvailable
    from headrace.stream import slice as ours

    monkeypatch.setattr(ours, "PATIENCE_SECONDS", 0.5)
    reader = ours.Reader(config_of(broker="127.0.0.1:1", group="g"))
    with pytest.raises(BrokerNotAvailable, match=r"^cards\[3\]: no record from 127.0.0.1:1 for "):
        list(reader.read("cards", 3, 7, 9, count=10))
    reader.close()
