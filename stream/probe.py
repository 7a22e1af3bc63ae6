"""Who answers at a broker's address: nobody, TLS, a Kafka broker, and which requests it knows.

A client that meets the wrong one says that the connection was closed, or nothing. So the address is asked in the
broker's own words, over a socket, before any client is made.
"""

import socket
import ssl
import struct
from typing import NamedTuple

SECONDS_MAX = 5.0
PORT_DEFAULT = 9092
TLS_ALERT = b"\x15\x03"
_API_VERSIONS = 18
_REQUEST = struct.pack(">hhih8s", _API_VERSIONS, 0, 1, 8, b"headrace")
_BYTES_MAX = 1 << 20
# What exactly once needs, as (key, version): the last is where an offset carries who commits it (KIP-447, Kafka 2.5).
TRANSACTIONS = {"InitProducerId": (22, 0), "AddOffsetsToTxn": (25, 0), "EndTxn": (26, 0), "TxnOffsetCommit": (28, 3)}


class Address(NamedTuple):
    """One of the addresses that ``broker`` names."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NotKafka(Exception):
    """Somebody answers, and not as a Kafka broker does; ``tls`` where it looks like TLS."""

    def __init__(self, text: str, *, tls: bool = False) -> None:
        super().__init__(text)
        self.tls = tls


def addresses(text: str) -> tuple[list[Address], list[str]]:
    """Return the addresses in a list of brokers, and those parts that are none.

    >>> addresses("kafka-1, SSL://kafka-2:9093,[::1]:9094")[0]
    [Address(host='kafka-1', port=9092), Address(host='kafka-2', port=9093), Address(host='::1', port=9094)]
    >>> addresses("kafka:port,:9092,kafka:99999,http://kafka/x")[1]
    ['kafka:port', ':9092', 'kafka:99999', 'http://kafka/x']
    """
    found, wrong = [], []
    for part in text.split(","):
        named = part.strip().rsplit("://", 1)[-1]
        host, colon, port = named.rpartition(":") if not named.endswith("]") else (named, "", "")
        if not colon:
            host, port = named, str(PORT_DEFAULT)
        host = host.removeprefix("[").removesuffix("]")
        good = host and not set(host) & set("/ @\t") and port.isdecimal() and 0 < int(port) < 1 << 16
        if good:
            found.append(Address(host, int(port)))
        else:
            wrong.append(part.strip())
    return found, wrong


def requests_known(at: Address, context: ssl.SSLContext | None = None) -> dict[int, int]:
    """Return the greatest version that a broker knows of each request; it says so before anybody logs in."""
    with socket.create_connection((at.host, at.port), timeout=SECONDS_MAX) as plain:
        plain.settimeout(SECONDS_MAX)
        if context is None:
            return _asked(plain)
        with context.wrap_socket(plain, server_hostname=at.host) as wrapped:
            return _asked(wrapped)


def speaks_tls(at: Address) -> bool:
    """Say whether a handshake comes about, whatever the certificate says."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((at.host, at.port), timeout=SECONDS_MAX) as plain,
            context.wrap_socket(plain, server_hostname=at.host),
        ):
            return True
    except ssl.SSLError as error:
        # A server that wants a certificate of ours says so, and a server that does not speak TLS says something else.
        return "CERTIFICATE" in (error.reason or "")
    except OSError:
        return False


def _asked(sock: socket.socket) -> dict[int, int]:
    sock.sendall(struct.pack(">i", len(_REQUEST)) + _REQUEST)
    head = _exactly(sock, 4)
    if head.startswith(TLS_ALERT):
        raise NotKafka("it answers in TLS", tls=True)
    (size,) = struct.unpack(">i", head)
    if not 10 <= size <= _BYTES_MAX:
        raise NotKafka(f"it answers {head!r}")
    body = _exactly(sock, size)
    correlation, error, count = struct.unpack_from(">ihi", body)
    if correlation != 1 or error or size != 10 + 6 * count:
        raise NotKafka(f"it answers {body[:20]!r}")
    rows = (struct.unpack_from(">hhh", body, 10 + 6 * row) for row in range(count))
    return {key: greatest for key, _, greatest in rows}


def _exactly(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        try:
            some = sock.recv(size - len(got))
        except TimeoutError:
            raise NotKafka(f"it gives no answer within {SECONDS_MAX:.0f} s") from None
        if not some:
            raise NotKafka("it closes the connection")
        got += some
    return got
