"""One alert, sent to one webhook: where nobody meant to send it, it does not go."""

import contextlib
import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import quote

from headrace import __version__
from headrace.schemas.trace import TRACEPARENT
from headrace.schemas.webhook import Network, Webhook, refusal

KEY_CHARACTERS_MAX = 512
BODY_BYTES_MAX = 16_384
BODY_SECONDS_MAX = 1.0
Resolve = Callable[..., Sequence[tuple[Any, ...]]]


class Answer(NamedTuple):
    """What came of an attempt. ``said`` is ours: nothing of what the other side wrote is in it.

    ``after`` is how many seconds it asked to be left alone.
    """

    accepted: bool
    said: str
    after: float = 0.0


class Refused(Exception):
    """A place where nothing is sent to."""


class Caller:
    """Sends to webhooks. It follows no redirect, and connects to the very address that it looked at.

    A name is resolved once for an attempt, and what it resolves to is looked at and connected to. Resolved once more by
    whoever connects, it could be another address by then. No proxy of the environment has a say.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        *,
        seconds: float,
        context: ssl.SSLContext | None = None,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        self._networks = networks
        self._seconds = seconds
        self._given = context
        self._resolve = resolve

    @cached_property
    def context(self) -> ssl.SSLContext:
        """What certificates are checked with. Made when it is wanted: the system's take a while to read."""
        return self._given or ssl.create_default_context()

    def send(self, webhook: Webhook, body: bytes, key: str, traceparent: str = "") -> Answer:
        """Send it, and say what came of it. Once its name is resolved, it takes no longer than it may.

        ``traceparent`` names the trace that the alert is in, as ``schemas.trace`` writes it.
        """
        try:
            with self._connected(webhook) as (connection, late):
                return _asked(connection, late, webhook, body, key, traceparent)
        except Refused as refused:
            return Answer(False, f"not sent: {refused}")
        except ssl.SSLCertVerificationError as error:
            return Answer(False, f"its certificate is not trusted ({error.verify_message})")
        except ssl.SSLError as error:
            return Answer(False, f"no TLS with it ({error.reason or 'broken off'})")
        except socket.gaierror as error:
            return Answer(False, f"its host has no address ({_reason(error)})")
        except TimeoutError:
            return Answer(False, f"no answer within {self._seconds:g} s")
        except OSError as error:
            return Answer(False, f"no connection ({_reason(error)})")
        except http.client.HTTPException as error:
            return Answer(False, f"no answer that is HTTP ({type(error).__name__})")

    @contextlib.contextmanager
    def _connected(self, webhook: Webhook) -> Iterator[tuple[http.client.HTTPConnection, threading.Event]]:
        """Yield a connection that is cut when the time is up, and what tells that it was.

        A timeout of each call alone would let drop after drop through.
        """
        late = threading.Event()
        found = self._addresses(webhook)
        deadline = time.monotonic() + self._seconds
        bare = self._connect(found)
        # Made before TLS wraps the socket, and shut down past TLS, which is in the middle of a read then.
        watched: list[socket.socket] = [bare]

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError):
                socket.socket.shutdown(watched[-1], socket.SHUT_RDWR)

        timer = threading.Timer(deadline - time.monotonic(), cut)
        timer.daemon = True
        timer.start()
        try:
            if webhook.secure:
                watched.append(
                    self.context.wrap_socket(bare, server_hostname=webhook.host, do_handshake_on_connect=False)
                )
                _secured(watched[-1])
            connection = http.client.HTTPConnection(webhook.host, webhook.port, timeout=self._seconds)
            connection.default_port = 443 if webhook.secure else 80  # which the Host header leaves out
            connection.auto_open = 0
            connection.sock = watched[-1]
            yield connection, late
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            with contextlib.suppress(OSError):
                watched[-1].close()

    def _addresses(self, webhook: Webhook) -> Sequence[tuple[Any, ...]]:
        """Return what may be connected to, or raise."""
        found = self._resolve(webhook.host, webhook.port, type=socket.SOCK_STREAM)
        reasons = [refusal(ip_address(place[0].partition("%")[0]), self._networks) for *_, place in found]
        usable = [one for one, reason in zip(found, reasons, strict=True) if not reason]
        if not usable:
            raise Refused(f"{', '.join(dict.fromkeys(reasons))}; alert_networks allows some")
        return usable

    def _connect(self, usable: Sequence[tuple[Any, ...]]) -> socket.socket:
        failed: OSError | None = None
        for family, kind, protocol, _, place in usable:
            connecting = socket.socket(family, kind, protocol)
            connecting.settimeout(self._seconds / len(usable))
            try:
                connecting.connect(place)
            except OSError as error:
                connecting.close()
                failed = error
                continue
            connecting.settimeout(self._seconds)
            return connecting
        assert failed is not None
        raise failed


def _secured(bare: socket.socket) -> None:
    assert isinstance(bare, ssl.SSLSocket)
    bare.do_handshake()


def _asked(
    connection: http.client.HTTPConnection,
    late: threading.Event,
    webhook: Webhook,
    body: bytes,
    key: str,
    traceparent: str,
) -> Answer:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"headrace/{__version__}",
        "Idempotency-Key": key,
        "Connection": "close",
    }
    if traceparent:
        headers[TRACEPARENT] = traceparent
    carrier = connection.sock  # of which the connection lets go once there is an answer
    assert carrier is not None
    connection.request("POST", webhook.target, body, headers)
    response = connection.getresponse()
    if late.is_set():
        raise TimeoutError  # headers that were cut look like headers that ended
    status = response.status
    accepted = 200 <= status < 300
    if accepted:
        # The rest is not looked at. It is taken in, if it is short and comes soon, because some servers call it an
        # error to be hung up on.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            carrier.settimeout(BODY_SECONDS_MAX)
            response.read(BODY_BYTES_MAX)
    said = f"it answered {_status(status)}"
    if 300 <= status < 400:
        said += ", and redirects are not followed"
    return Answer(accepted, said, _seconds(response.headers.get("Retry-After", "")))


def _status(status: int) -> str:
    # The other side's own words may be anything, the secret in the address too.
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _seconds(text: str) -> float:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def idempotency_key(identity: str, state: str, at: float) -> str:
    """Return what a repetition has in common with the first time, and fits into a header, whatever the id is.

    >>> idempotency_key("drift-amount-7", "raised", 12.5)
    'drift-amount-7/raised/12.5'
    >>> idempotency_key("a" + chr(13) + chr(10) + "Host: evil", "raised", 12.5)
    'a%0D%0AHost%3A%20evil/raised/12.5'
    """
    name = quote(identity, safe="")
    if len(name) > KEY_CHARACTERS_MAX:
        name = hashlib.sha256(identity.encode()).hexdigest()
    return f"{name}/{state}/{at!r}"
