"""The live page of a worker: who may see it, what is on it, and the button that says "seen"."""

import asyncio
import contextlib
import hashlib
import hmac
import html
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson
from aiohttp import web

import headrace
from headrace.models.pipeline import Pipeline
from headrace.schemas.acknowledgement import BY_CHARACTERS_MAX, NOTE_CHARACTERS_MAX
from headrace.schemas.config import Config, is_loopback
from headrace.schemas.errors import HeadraceError
from headrace.stream import alerts
from headrace.stream.board import Board
from headrace.stream.fan import Fan
from headrace.stream.health import Health, is_stranger
from headrace.stream.telemetry import Telemetry
from headrace.stream.view import View
from headrace.stream.watched import Watched, nothing

log = logging.getLogger("headrace.page")

FOLDER = Path(__file__).parent
FILES = {"page.css": "text/css", "page.js": "text/javascript"}
SECONDS = 1.0  # from one snapshot to the next while somebody looks
WATCHED_COUNT = 5  # snapshots, of which one says again what is watched: who is slow may have missed it
IDLE_SECONDS = 5.0  # and while nobody does
PAUSE_SECONDS_MIN = 0.1  # however long a snapshot takes
WATCHED_SECONDS = 30.0  # whoever asked so long ago does not look any more
COOKIE = "headrace-page"
GUARD = "X-Headrace-Page"  # the header that a form elsewhere cannot send
WRONG_SECONDS = 0.5  # that a wrong token takes
BODY_BYTES_MAX = 16_384
BROKER_SECONDS_MAX = 10.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the button sends."""

    id: str
    by: str = ""
    note: str = ""


class Page:
    """Serves the page and what it shows: a snapshot a second, made once and written to all who look.

    On loopback whoever is on this host may look; beyond, whoever knows ``web_token``. A name that only points to this
    host is refused, because a page elsewhere could read it through that name. Nothing of an event is ever in an
    address.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: Config,
        telemetry: Telemetry,
        health: Health,
        look: Callable[[], Awaitable[None]],
    ) -> None:
        self._pipeline = pipeline
        self._config = config
        self._telemetry = telemetry
        self._health = health
        self._look = look
        self._view = View(telemetry.registry)
        self._fan = Fan()
        watch = pipeline.watch
        self._watched = None if watch is None else Watched(watch, learns=pipeline.learns)
        self._nothing_watched = nothing("this pipeline watches nothing")
        self._board = Board(config, pipeline.topics, self._watched)
        self._began = False
        self._asked_at = float("-inf")
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()  # by the first who looks after a while
        self._number = 0
        self._made_at = float("-inf")
        self._made: dict[str, Any] = {}
        self._said: dict[str, Any] = {}  # of what is watched, to all who look
        self._guard = secrets.token_urlsafe(24)
        self._what = _what(pipeline, config)
        self._proof = _proof(config.web_token)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve the page beside whatever else is served."""
        router.add_get("/", self._index)
        for name in FILES:
            router.add_get(f"/{name}", self._file)
        router.add_get("/page/data", self._data)
        router.add_get("/page/events", self._events)
        router.add_post("/page/enter", self._enter)
        router.add_post("/page/acknowledge", self._acknowledge)

    async def beat(self) -> None:
        """Make a snapshot again and again, and tell everybody who looks."""
        while True:
            began = time.monotonic()
            try:
                made = await self._snapshot()
                if self._fan.count:
                    self._asked_at = self._board.looked_at = began
                    self._fan.say(_event(self._news(made)))
            except Exception:  # the worker goes on without its page
                log.exception("the page could not be made")
            if time.monotonic() - self._asked_at < WATCHED_SECONDS:
                await asyncio.sleep(max(PAUSE_SECONDS_MIN, SECONDS - (time.monotonic() - began)))
                continue
            # Not by wait_for: that of Python 3.11 loses a cancellation that comes together with the event.
            self._woken.clear()
            timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._woken.set)
            await self._woken.wait()
            timer.cancel()

    async def close(self) -> None:
        """Let go of everybody who looks."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._fan.close)
        await loop.run_in_executor(None, self._board.close)

    async def _snapshot(self, age_max: float = 0.0) -> dict[str, Any]:
        async with self._turn:
            if time.monotonic() - self._made_at < age_max:
                return self._made
            await self._look()
            self._number += 1
            answers = self._health.answers()
            self._made = {
                "number": self._number,
                **self._view.look(time.time()),
                "worker": self._what,
                "health": {
                    "live": answers["live"].word,
                    "ready": answers["ready"].word,
                    "missing": answers["ready"].details["missing"],
                    "still": self._health.red,
                },
                "group": self._board.group.told(time.monotonic()),
                "alerts": self._board.alerts.open(),
                "drift": self._board.alerts.drift(),
                "watched": self._nothing_watched if self._watched is None else self._watched.told,
                "predictions": [self._prediction(at, one) for at, one in list(self._telemetry.predictions)[::-1]],
                "dead_letters": [{"at": at, **one._asdict()} for at, one in list(self._telemetry.letters)[::-1]],
                "listeners": self._fan.count,
            }
            self._made_at = time.monotonic()
            return self._made

    def _news(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return a snapshot without what is watched, which is half of it, where that is not new."""
        told, self._said = self._said, made["watched"]
        if made["watched"] is told and made["number"] % WATCHED_COUNT:
            return {name: value for name, value in made.items() if name != "watched"}
        return made

    def _prediction(self, at: float, one: Any) -> dict[str, Any]:
        wire = self._pipeline.wire
        told = {
            "published": at,
            "id": str(getattr(one, wire.id)),
            "at": getattr(one, wire.time),
            "key": str(getattr(one, wire.key)),
        }
        for name in ("score", "static", "online", "version"):
            told[name] = getattr(one, name)
        told["flags"] = list(one.flags)
        told["reasons"] = [msgspec.structs.asdict(each) for each in getattr(one, "reasons", ())]
        return told

    def _asked(self) -> None:
        """Note that somebody looks; with the first, begin to read what others say."""
        self._asked_at = self._board.looked_at = time.monotonic()
        self._woken.set()
        if not self._began:
            self._began = True
            self._fan.start()
            self._board.start()

    # Who may look.

    def _refused(self, request: web.Request) -> web.Response | None:
        """Return what is said to somebody who may not look; None to whoever may."""
        if self._proof:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if _equal(request.cookies.get(COOKIE, ""), self._proof) or _equal(_proof(given), self._proof):
                return None
            return _text(401, "the page wants its token: open / in a browser, or send Authorization: Bearer TOKEN")
        if is_stranger(request.remote, request.headers):
            return _text(403, "this page is for this host alone; with web_token it is for whoever knows that")
        if not is_loopback(_name(request.headers.get("Host", ""))):
            return _text(403, "this page is 127.0.0.1 or localhost; with web_token it may have another name")
        return None

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            if refused.status == 401:
                return _file("enter.html", "text/html", status=401)
            return refused
        self._asked()
        return _file("page.html", "text/html", {"GUARD": self._guard, "NAME": self._pipeline.name})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/")
        return _file(name, FILES[name])

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """Give whoever knows the token a cookie that proves it, and is not it."""
        if not self._proof or not _same_origin(request.headers):
            return _text(403, "there is nothing to enter from here")
        given = (await request.post()).get("token", "") if _is_small(request) else ""
        if not isinstance(given, str) or not _equal(_proof(given), self._proof):
            await asyncio.sleep(WRONG_SECONDS)
            return _file("enter.html", "text/html", status=401)
        answer = web.Response(status=303, headers={**HEADERS, "Location": "/"})
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        answer.set_cookie(COOKIE, self._proof, httponly=True, samesite="Strict", secure=secure, path="/")
        return answer

    # What is on it.

    async def _data(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        self._asked()
        made = {**await self._snapshot(SECONDS), "history": self._view.history}
        return web.Response(body=_json(made), content_type="application/json", headers=HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Hand the connection to the thread that writes to all: from here on it is none of the event loop's."""
        if (refused := self._refused(request)) is not None:
            return refused
        self._asked()
        first = _event({**await self._snapshot(SECONDS), "history": self._view.history})
        transport = request.transport
        if transport is None:  # gone already
            return web.Response()
        try:
            theirs = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:  # no descriptor is left
            return _text(503, "too many look already")
        if not self._fan.listen(theirs, first):
            return _text(503, "too many look already")
        transport.abort()  # closes the loop's descriptor; the connection lives by the other
        return web.Response()

    async def _acknowledge(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        if not _same_origin(request.headers) or not _equal(request.headers.get(GUARD, ""), self._guard):
            return _text(403, "only this page's own button says that; load the page again")
        if not _is_small(request) or request.content_type != "application/json":
            return _text(400, f"expected JSON of {BODY_BYTES_MAX} bytes at the most")
        try:
            asked = msgspec.json.decode(await request.read(), type=Ask)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _text(400, str(error))
        limits = ("by", asked.by, BY_CHARACTERS_MAX), ("note", asked.note, NOTE_CHARACTERS_MAX)
        if problems := alerts.too_long(*limits):
            return _text(400, "; ".join(problems))
        if not self._board.alerts.is_open(asked.id):
            return _text(404, "no alert that is open has this id")
        deadline = time.monotonic() + BROKER_SECONDS_MAX
        loop = asyncio.get_running_loop()
        try:
            said = await loop.run_in_executor(
                None,
                lambda: alerts.publish(
                    self._config, asked.id, by=asked.by, note=asked.note, stopped=lambda: time.monotonic() > deadline
                ),
            )
        except HeadraceError as error:
            return _text(503, f"{error.code}: {error}")
        self._board.alerts.acknowledged(said)
        self._made_at = float("-inf")  # whoever asks now sees it
        return web.Response(body=msgspec.json.encode(said), content_type="application/json", headers=HEADERS)


def _what(pipeline: Pipeline, config: Config) -> dict[str, Any]:
    """Return what does not change while a worker runs."""
    return {
        "run": secrets.token_hex(8),  # a page that sees another one loads itself again
        "instance": config.instance,
        "host": socket.gethostname(),
        "group": config.group,
        "guarantee": config.guarantee,
        "since": time.time(),
        "headrace": headrace.__version__,
        "pipeline": pipeline.name,
        "version": pipeline.version,
        "kind": pipeline.kind,
        "features": len(pipeline.features),
        "static": None if pipeline.static is None else _class(pipeline.static),
        "online": None if pipeline.online is None else _class(pipeline.online),
        "combines": pipeline.static is not None and pipeline.online is not None,
        "learns": pipeline.learns,
        "topics": {
            "events": pipeline.wire.topic,
            "labels": pipeline.topics[1] if len(pipeline.topics) > 1 else None,
            "predictions": config.topic_predictions,
            "dead_letters": config.topic_dead_letters,
            "alerts": config.topic_alerts,
            "outcomes": config.topic_outcomes,
        },
    }


def _class(model: Any) -> str:
    steps = getattr(model, "steps", None)  # of River's pipelines
    if isinstance(steps, Mapping):
        return " | ".join(type(one).__name__ for one in steps.values())
    return type(model).__name__


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _file(name: str, kind: str, values: Mapping[str, str] | None = None, *, status: int = 200) -> web.Response:
    text = _read(name)
    for place, value in (values or {}).items():
        text = text.replace(f"%{place}%", html.escape(value))
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=HEADERS, status=status)


def _text(status: int, text: str) -> web.Response:
    return web.Response(text=f"{text}\n", status=status, headers=HEADERS)


def _json(made: Mapping[str, Any]) -> bytes:
    return orjson.dumps(made, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _event(made: Mapping[str, Any]) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (made["number"], _json(made))


def _proof(token: str) -> str:
    """Return what a cookie holds in the token's place; of no token nothing."""
    return hmac.new(token.encode(), b"headrace page", hashlib.sha256).hexdigest() if token else ""


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_small(request: web.Request) -> bool:
    length = request.content_length
    return length is not None and length <= BODY_BYTES_MAX


def _name(host: str) -> str:
    """Return a Host header without its port.

    >>> _name("localhost:6066"), _name("[::1]:6066"), _name("10.1.2.3"), _name("")
    ('localhost', '::1', '10.1.2.3', '')
    """
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


def _same_origin(headers: Mapping[str, str]) -> bool:
    """Say whether a request comes from a page of ours, which browsers tell.

    >>> _same_origin({"Origin": "http://127.0.0.1:6066", "Host": "127.0.0.1:6066"})
    True
    >>> _same_origin({"Origin": "http://evil.example", "Host": "127.0.0.1:6066"}), _same_origin({"Host": "a"})
    (False, False)
    """
    origin, host = headers.get("Origin"), headers.get("Host", "")
    if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or not origin:
        return False
    with contextlib.suppress(ValueError):
        parts = urlsplit(origin)
        return parts.scheme in {"http", "https"} and parts.netloc == host
    return False
