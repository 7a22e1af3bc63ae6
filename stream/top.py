"""``headrace top``: a group at work, in a terminal."""

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from typing import Any, cast

from headrace.schemas.config import Config
from headrace.schemas.errors import BadConfig, WorkerMissing
from headrace.stream import terminal
from headrace.stream.follower import QUIET_SECONDS_MAX, Follower, address
from headrace.stream.frame import UNASKED, frame, summary

FIRST_SECONDS_MAX = QUIET_SECONDS_MAX  # for which one frame waits for the pages
GROUP_SECONDS_MAX = 4.0  # and then for what a page, which was not looked at before, asks of the broker
REDRAW_SECONDS = 1.0  # ages grow also while nothing comes
KEY_SECONDS = 0.1
ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the other screen, without a cursor
LEAVE = "\x1b[?25h\x1b[?1049l"


def main(urls: Sequence[str], config: Config, *, once: bool, as_json: bool) -> int:
    """Show it until somebody presses q, or once."""
    followers, woken = _followers(urls, config)
    with contextlib.suppress(AttributeError):  # of a stream that is none of Python's own
        cast("Any", sys.stdout).reconfigure(errors="replace")  # a terminal need not know every letter
    if once or as_json or not sys.stdout.isatty():
        return _once(followers, woken, as_json=as_json)
    return _live(followers, woken)


def _followers(urls: Sequence[str], config: Config) -> tuple[list[Follower], threading.Event]:
    if not urls:
        if config.web_port <= 0:
            raise BadConfig(
                [
                    'top: where? Give the address that a worker\'s line "ready" says (headrace top '
                    "http://127.0.0.1:6066), or set web_port, for the worker and here"
                ]
            )
        host = "127.0.0.1" if config.web_host in {"0.0.0.0", "::", ""} else config.web_host  # noqa: S104 - not bound
        urls = [f"[{host}]:{config.web_port}" if ":" in host else f"{host}:{config.web_port}"]
    woken = threading.Event()
    followers = [Follower(address(url), config.web_token, woken) for url in dict.fromkeys(urls)]
    for one in followers:
        one.start()
    return followers, woken


def _once(followers: list[Follower], woken: threading.Event, *, as_json: bool) -> int:
    began = time.monotonic()
    while time.monotonic() - began < FIRST_SECONDS_MAX:
        _raise_refused(followers)
        seen = [one.sighting() for one in followers]
        if all(one.snapshot or one.trouble for one in seen):
            asked = [one.snapshot["group"]["trouble"] != UNASKED for one in seen if one.snapshot]
            if any(asked) or not asked or time.monotonic() - began > GROUP_SECONDS_MAX:
                break
        woken.wait(KEY_SECONDS)
        woken.clear()
    _raise_refused(followers)
    seen = [one.sighting() for one in followers]
    if not any(one.snapshot for one in seen):
        raise WorkerMissing("; ".join(f"{one.url}: {one.trouble or 'no word'}" for one in seen))
    told = summary(seen, time.time())
    if as_json:
        terminal.json_line(told)
        return 0
    width = shutil.get_terminal_size().columns
    for line in frame(told, seen[0].history, width, None, colour=terminal.coloured()):
        terminal.line(line)
    return 0


def _live(followers: list[Follower], woken: threading.Event) -> int:
    drawn_at, size = float("-inf"), os.terminal_size((0, 0))
    with _screen():
        while True:
            _raise_refused(followers)
            now = shutil.get_terminal_size()
            if woken.is_set() or now != size or time.monotonic() - drawn_at >= REDRAW_SECONDS:
                woken.clear()
                drawn_at, size = time.monotonic(), now
                _draw(followers, size)
            if _pressed() in {"q", "Q", "\x03"}:
                return 0


def _draw(followers: list[Follower], size: os.terminal_size) -> None:
    """Write one frame over the last, line by line, so that nothing flickers and nothing is left over."""
    seen = [one.sighting() for one in followers]
    told = summary(seen, time.time())
    lines = frame(told, seen[0].history, size.columns, max(1, size.lines - 1), colour=terminal.coloured())
    lines += [""] * (size.lines - 1 - len(lines)) + [terminal.painted("q quits", "faint", colour=terminal.coloured())]
    sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
    sys.stdout.flush()


def _raise_refused(followers: list[Follower]) -> None:
    if refused := [f"{one.url}: {one.refused}" for one in followers if one.refused]:
        raise BadConfig([f"{one} (here web_token, or HEADRACE_WEB_TOKEN)" for one in refused])


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Take the terminal, and give it back as it was, however this ends, and while it is stopped with Ctrl-Z."""
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = termios.tcgetattr(keys) if keys is not None else None

    def take() -> None:
        if keys is not None:
            tty.setcbreak(keys)
        sys.stdout.write(ENTER)
        sys.stdout.flush()

    def give_back() -> None:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        if keys is not None and before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)

    def stop(_number: int, _frame: Any) -> None:
        give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        take()

    def end(number: int, _frame: Any) -> None:
        raise SystemExit(0 if number == signal.SIGINT else 128 + number)

    signals = {signal.SIGTSTP: stop, signal.SIGINT: end, signal.SIGTERM: end, signal.SIGHUP: end}
    former = {one: signal.signal(one, what) for one, what in signals.items()}
    take()
    try:
        yield
    finally:
        for one, what in former.items():
            signal.signal(one, what)
        give_back()


def _pressed() -> str:
    """Return the key that was pressed, if one was, after a moment in which one could have been."""
    if sys.stdin is None or not sys.stdin.isatty():
        time.sleep(KEY_SECONDS)
        return ""
    ready, _, _ = select.select([sys.stdin], [], [], KEY_SECONDS)
    if not ready:
        return ""
    # Not through the text layer, which would take in more than one and keep it where select does not look.
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace")
