"""One alert to one webhook: what is taken for a yes, and where nothing goes, whatever a name resolves to."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from core.hooks import Hook
from core.records import config_of

from headrace.schemas.config import Given, configure, from_pairs
from headrace.schemas.errors import BadConfig
from headrace.schemas.webhook import Form, networks, parsed, refusal
from headrace.stream.webhooks import Caller, idempotency_key

LOOPBACK = networks("127.0.0.1")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


def _send(url: str, *, seconds: float = 30.0, allowed: str = "127.0.0.1", **options: Any) -> Any:
    return Caller(networks(allowed), seconds=seconds, **options).send(
        parsed(url, Form.JSON), b'{"id":"a"}', "a/raised/1.0"
    )


def test_an_alert_is_posted_with_its_key_and_nothing_of_others(hook: Hook) -> None:
    assert _send(f"{hook.url}?channel=a%20b") == (True, "it answered 200 OK", 0.0)
    (got,) = hook.got
    assert got.path == "/services/hunter2?channel=a%20b"
    assert got.body == b'{"id":"a"}'
    port = hook.server.server_address[1]
    assert {name: value for name, value in got.headers.items() if name != "User-Agent"} == {
        "Host": f"127.0.0.1:{port}",
        "Accept-Encoding": "identity",
        "Content-Length": "10",
        "Content-Type": "application/json",
        "Idempotency-Key": "a/raised/1.0",
        "Connection": "close",
    }


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_answer_of_two_hundred_is_a_yes(hook: Hook, status: int) -> None:
    hook.answer = lambda _got, _place: status
    assert _send(hook.url).accepted


@pytest.mark.parametrize("status", [300, 400, 401, 404, 410, 429, 500, 503, 599, 999])
def test_any_other_answer_is_a_no(hook: Hook, status: int) -> None:
    hook.answer = lambda _got, _place: status
    answer = _send(hook.url)
    assert not answer.accepted
    assert answer.said.startswith(f"it answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hook: Hook, status: int) -> None:
    with Hook() as other:

        def redirect(handler: Any) -> None:
            handler.send_response(status)
            handler.send_header("Location", other.url)
            handler.end_headers()

        hook.answer = lambda _got, _place: redirect
        answer = _send(hook.url)
        assert not answer.accepted
        assert answer.said.endswith("redirects are not followed")
        assert not other.got


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), (" 30 ", 30.0), ("-1", 0.0), ("soon", 0.0), ("9" * 400, 0.0), ("٣", 0.0)]
)
def test_a_pause_that_is_asked_for_is_heard_if_it_is_a_number(hook: Hook, text: str, seconds: float) -> None:
    def busy(handler: Any) -> None:
        handler.wfile.write(f"HTTP/1.0 429 x\r\nRetry-After: {text}\r\n\r\n".encode())

    hook.answer = lambda _got, _place: busy
    assert _send(hook.url) == (False, "it answered 429 Too Many Requests", seconds)


def _hangs(handler: Any) -> None:
    handler.server.released.wait(60)


def _drips(handler: Any) -> None:
    # Each drop is in time for a timeout of every read, and all of them together never end.
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not handler.server.released.wait(0.02):
            handler.wfile.write(b"X: y\r\n")


@pytest.mark.parametrize("slow", [_hangs, _drips])
def test_a_webhook_that_hangs_is_left_when_the_time_is_up(hook: Hook, slow: Any) -> None:
    hook.server.released = threading.Event()  # type: ignore[attr-defined]
    hook.answer = lambda _got, _place: slow
    began = time.monotonic()
    answer = _send(hook.url, seconds=0.3)
    assert time.monotonic() - began < 30, "it waited as long as the other side wanted"
    hook.server.released.set()  # type: ignore[attr-defined]
    assert not answer.accepted
    # Lines without end are too many at some time, and on a slow machine not before the time is up.
    assert answer.said in {"no answer within 0.3 s", "no answer that is HTTP (HTTPException)"}


def test_a_webhook_that_never_reads_is_left_when_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        answer = _send(f"http://127.0.0.1:{deaf.getsockname()[1]}/", seconds=0.3)
    assert answer == (False, "no answer within 0.3 s", 0.0)


def test_a_body_without_end_is_not_read(hook: Hook) -> None:
    written = 0

    def endless(handler: Any) -> None:
        nonlocal written
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        try:
            while written < 1 << 30:
                written += handler.wfile.write(b"x" * 65_536)
        except OSError:
            pass

    hook.answer = lambda _got, _place: endless
    assert _send(hook.url).accepted
    assert written < 1 << 28


def test_a_yes_whose_body_does_not_come_is_a_yes(hook: Hook) -> None:
    hook.server.released = threading.Event()  # type: ignore[attr-defined]

    def slow(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n")
        handler.wfile.flush()
        _hangs(handler)

    hook.answer = lambda _got, _place: slow
    began = time.monotonic()
    assert _send(hook.url, seconds=60.0).accepted
    assert time.monotonic() - began < 30, "and nobody waits for the rest of it"
    hook.server.released.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.0 abc\r\n\r\n", b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"]
)
def test_an_answer_that_is_not_http_is_a_no(hook: Hook, said: bytes) -> None:
    hook.answer = lambda _got, _place: lambda handler: handler.wfile.write(said)
    answer = _send(hook.url)
    assert not answer.accepted
    assert answer.said.startswith(("no answer that is HTTP (", "no connection ("))


def test_a_webhook_that_is_not_there_is_a_no() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert _send(f"http://127.0.0.1:{port}/hunter2") == (False, "no connection (Connection refused)", 0.0)


def test_a_name_that_is_not_there_is_a_no() -> None:
    def unknown(*_args: Any, **_named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    answer = _send("http://hooks.example/", resolve=unknown)
    assert answer == (False, "its host has no address (Name or service not known)", 0.0)


REFUSED = {
    "127.0.0.1": "loopback",
    "127.9.9.9": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "private",
    "198.18.0.1": "private",
    "fc00::1": "private",
    "fec0::1": "private",
    "::ffff:10.0.0.1": "private",
    "64:ff9b::a00:1": "private",
    "2002:a00:1::1": "private",
    "169.254.0.1": "link-local",
    "169.254.169.254": "link-local",
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "2002:a9fe:a9fe::1": "link-local",
    "fe80::1": "link-local",
    "100.100.100.200": "credentials",
    "192.0.0.192": "credentials",
    "fd00:ec2::254": "credentials",
    "0.0.0.0": "no single machine",
    "::": "no single machine",
    "255.255.255.255": "no single machine",
    "224.0.0.1": "no single machine",
    "ff02::1": "no single machine",
    "240.0.0.1": "private",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_an_address_that_is_not_public_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(ip_address(text))


@pytest.mark.parametrize("text", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14"])
def test_a_public_address_is_not_refused(text: str) -> None:
    assert refusal(ip_address(text)) == ""


@pytest.mark.parametrize("text", [text for text, reason in REFUSED.items() if reason in {"link-local", "credentials"}])
def test_a_wide_network_does_not_let_anybody_to_the_credentials_of_a_machine(text: str) -> None:
    wide = [ip_network("0.0.0.0/0"), ip_network("::/0")]
    assert refusal(ip_address(text), wide)
    alone = ["169.254.169.254", "169.254.0.1", "fe80::1", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"]
    carried = [*map(ip_network, alone), ip_network("2002::/16")]
    assert refusal(ip_address(text), carried) == ""


def _resolving(*addresses: str) -> Any:
    """Resolve every name to these addresses, and count how often that was asked for."""

    def resolve(host: str, port: int, **_named: Any) -> Any:
        resolve.asked += 1  # type: ignore[attr-defined]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in addresses
        ]

    resolve.asked = 0  # type: ignore[attr-defined]
    return resolve


def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(hook: Hook) -> None:
    url = hook.url.replace("127.0.0.1", "hooks.example")
    answer = _send(url, allowed="10.0.0.0/8", resolve=_resolving("127.0.0.1", "169.254.169.254"))
    assert answer.said == (
        "not sent: 127.0.0.1 is a loopback address, 169.254.169.254 is a link-local address, which only a network of "
        "itself alone allows; alert_networks allows some"
    )
    assert not hook.got


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that is asked for a second time could have another answer by then.
    def never(*_args: Any, **_named: Any) -> Any:
        raise AssertionError("resolved again")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket, "create_connection", never)
    resolve = _resolving("10.255.255.1", "127.0.0.1")
    answer = _send(hook.url.replace("127.0.0.1", "hooks.example"), resolve=resolve)
    assert answer.accepted
    assert resolve.asked == 1
    assert hook.got[0].headers["Host"].startswith("hooks.example:")


@pytest.mark.parametrize("text", ["http://0x7f000001", "http://2130706433", "http://127.1", "http://localhost"])
def test_another_way_to_write_loopback_is_loopback(hook: Hook, text: str) -> None:
    answer = _send(f"{text}:{hook.server.server_address[1]}/", allowed="")
    assert "loopback address" in answer.said
    assert not hook.got


def test_proxies_of_the_environment_have_no_say(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hook() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert _send(hook.url).accepted
        assert not proxy.got


def test_certificates_and_the_hosts_in_them_are_checked() -> None:
    context = Caller(LOOPBACK, seconds=1.0).context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_what_speaks_no_tls_is_a_no(hook: Hook) -> None:
    answer = _send(hook.url.replace("http:", "https:"))
    assert not answer.accepted
    assert answer.said.startswith(("no TLS with it (", "no connection ("))
    assert not hook.got


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, made for this run."""
    openssl = shutil.which("openssl")
    assert openssl, "the tests make a certificate, and want the openssl command for that"
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hook"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[Hook]:
    with Hook() as hook:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        hook.server.socket = context.wrap_socket(hook.server.socket, server_side=True, do_handshake_on_connect=False)
        hook.url = hook.url.replace("http:", "https:")
        yield hook


def test_a_certificate_that_is_trusted_and_of_this_host_is_a_yes(secure: Hook, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    assert _send(secure.url, context=context).accepted
    assert len(secure.got) == 1


def test_a_certificate_of_another_host_gets_nothing(secure: Hook, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    url = secure.url.replace("127.0.0.1", "hooks.example")
    answer = _send(url, context=context, resolve=_resolving("127.0.0.1"))
    assert answer.said.startswith("its certificate is not trusted (Hostname mismatch")
    assert not secure.got


def test_a_certificate_that_nobody_vouches_for_gets_nothing(secure: Hook) -> None:
    assert _send(secure.url).said == "its certificate is not trusted (self-signed certificate)"
    assert not secure.got


def test_a_handshake_that_hangs_is_left_when_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        answer = _send(f"https://127.0.0.1:{deaf.getsockname()[1]}/", seconds=0.3)
    assert answer == (False, "no answer within 0.3 s", 0.0)


@pytest.mark.parametrize("identity", ["a", "a b", "ä/../x", "a\r\nX-Evil: 1", "\x00", "😀" * 10_000, ""])
def test_a_key_fits_into_a_header_whatever_the_id_is(hook: Hook, identity: str) -> None:
    key = idempotency_key(identity, "raised", 1.5)
    answer = Caller(LOOPBACK, seconds=30.0).send(parsed(hook.url, Form.JSON), b"{}", key)
    assert answer.accepted
    assert hook.got[0].headers["Idempotency-Key"] == key
    assert "X-Evil" not in hook.got[0].headers


def test_alerts_whose_long_ids_begin_alike_have_different_keys() -> None:
    assert idempotency_key("a" * 1_000 + "b", "raised", 1.0) != idempotency_key("a" * 1_000 + "c", "raised", 1.0)


def _problems(**options: str) -> tuple[str, ...]:
    with pytest.raises(BadConfig) as told:
        configure(from_pairs([f"{name}={value}" for name, value in options.items()]))
    return told.value.problems


SECRET = "https://hooks.example/services/hunter2"


@pytest.mark.parametrize("option", ["alert_webhooks", "alert_slack_webhooks"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"": "http://hooks.example/hunter2"},
            "http://hooks.example/****: alerts would travel in the clear; use https,",
        ),
        ({"": "ftp://hooks.example/hunter2"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": f"{SECRET},hunter2"}, "the address in place 2: expected https://HOST/PATH"),
        ({"": "https://hooks.example/hunter2 x"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": "https://hooks.example:hunter2/"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": "https://höoks.example/hunter2"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": "https:///hunter2"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": "https://[::1/hunter2"}, "the address in place 1: expected https://HOST/PATH"),
        ({"": "https://me:hunter2@hooks.example/"}, "the address in place 1: a name and a password are not sent"),
        ({"": f"{SECRET}, {SECRET}"}, "the same address twice"),
        ({"": SECRET, "alert_hosts": "other.example"}, "https://hooks.example/****: its host is not in alert_hosts"),
        ({"": SECRET, "alert_hosts": "example"}, "https://hooks.example/****: its host is not in alert_hosts"),
        (
            {"": "https://10.0.0.1/hunter2"},
            "https://10.0.0.1/****: 10.0.0.1 is a private address; alert_networks allows",
        ),
        (
            {"": "https://[::1]:8443/hunter2"},
            "https://[::1]:8443/****: ::1 is a loopback address; alert_networks allows",
        ),
    ],
)
def test_what_a_webhook_cannot_be_is_told_without_its_secret(option: str, given: dict[str, str], text: str) -> None:
    problems = _problems(**{name or option: value for name, value in given.items()})
    assert len(problems) == 1
    assert problems[0].startswith(f"{option}: {text}")
    assert "hunter2" not in problems[0]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "private", "10.0.0.0/33"])
def test_a_network_that_is_none_is_told(text: str) -> None:
    assert _problems(alert_networks=text)[0].startswith(f"alert_networks: {text} is no network")


def test_more_webhooks_than_fit_are_told() -> None:
    many = ",".join(f"https://hooks.example/{place}" for place in range(33))
    assert _problems(alert_webhooks=many) == ("alert_webhooks and alert_slack_webhooks: allowed are 32 together",)


def test_a_webhook_may_be_where_it_was_allowed_to_be() -> None:
    config_of(alert_webhooks=SECRET, alert_hosts="other.example, HOOKS.example")
    config_of(alert_webhooks="https://10.1.2.3/x", alert_networks="10.1.0.0/16")
    config_of(alert_webhooks="http://127.0.0.1/x", alert_networks="127.0.0.1", allow_insecure="true")


def test_the_address_of_a_webhook_is_never_shown() -> None:
    config = config_of(alert_webhooks=f"{SECRET},https://b.example/x?token=hunter3", alert_slack_webhooks=SECRET)
    shown = config.shown()
    assert shown["alert_webhooks"] == "https://hooks.example/****, https://b.example/****"
    assert shown["alert_slack_webhooks"] == "https://hooks.example/****"
    given = {"alert_webhooks": Given(SECRET, "--set"), "web_port": Given("x", "--set")}
    with pytest.raises(BadConfig) as told:
        configure(given)
    assert "hunter" not in f"{shown}{told.value}{parsed(SECRET, Form.JSON)!r}{[parsed(SECRET, Form.JSON)]}"
