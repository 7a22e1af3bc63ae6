"""Where alerts are sent: what a webhook's address may be, and which addresses nobody is sent to by accident."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

COUNT_MAX = 32  # how far each of them is has to fit beside the group's offset
STARS = "****"
# Where clouds hand out the credentials of a machine. Those that are link-local are refused as such.
_METADATA = {ip_address(text) for text in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")}
_NAT64 = ip_network("64:ff9b::/96")
# Neither blanks nor control characters, and nothing that would have to be encoded first.
_PLAIN = re.compile(r"[!-~]+")


class Form(StrEnum):
    """In which form a webhook gets an alert."""

    JSON = "json"
    SLACK = "slack"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts go, and in which form. What is behind the host is a secret: it is never shown.

    >>> webhook = parsed("https://hooks.slack.com/services/T0/B0/hunter2", Form.SLACK)
    >>> webhook
    https://hooks.slack.com/****
    >>> webhook.host, webhook.port, webhook.target
    ('hooks.slack.com', 443, '/services/T0/B0/hunter2')
    """

    form: Form
    secure: bool
    host: str
    port: int
    target: str

    @property
    def name(self) -> str:
        """What it is called where its address must not be: the same for the same address and form."""
        said = f"{self.form} {self.secure} {self.host} {self.port} {self.target}"
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.secure else 80) else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}/{STARS}"

    def __repr__(self) -> str:
        return str(self)


def parsed(url: str, form: Form) -> Webhook:
    """Return the webhook, or raise with what is wrong; the text says nothing of what is secret.

    >>> parsed("ftp://example.com/x", Form.JSON)
    Traceback (most recent call last):
    ValueError: expected https://HOST/PATH
    >>> parsed("https://me:hunter2@example.com/x", Form.JSON)
    Traceback (most recent call last):
    ValueError: a name and a password are not sent; put what is secret into the path
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected https://HOST/PATH") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not _PLAIN.fullmatch(url):
        raise ValueError("expected https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError("a name and a password are not sent; put what is secret into the path")
    if port == 0 or not _is_host(parts):
        raise ValueError("expected https://HOST/PATH")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Webhook(form=form, secure=secure, host=parts.hostname, port=port or (443 if secure else 80), target=target)


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return literal(host) is not None or re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", host) is not None


def words(text: str) -> list[str]:
    """Return what is between commas.

    >>> words(" a, b,,")
    ['a', 'b']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def shown(text: str) -> str:
    """Return the addresses as they may be shown.

    >>> shown("https://hooks.slack.com/services/hunter2, hunter3")
    'https://hooks.slack.com/****, ****'
    """

    def masked(url: str) -> str:
        try:
            return str(parsed(url, Form.JSON))
        except ValueError:
            return STARS

    return ", ".join(map(masked, words(text)))


def literal(host: str) -> Address | None:
    """Return the address that a host is, or None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks between commas, or raise."""
    return tuple(map(ip_network, words(text)))


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str:
    """Say why nothing is sent to an address, or nothing if it may be.

    Public addresses may be sent to, and those in a network that was allowed. Where machines get their credentials, and
    what is link-local, has to be allowed by itself: a wide network that happens to hold it does not count.

    >>> refusal(ip_address("93.184.215.14")), refusal(ip_address("10.1.2.3"), [ip_network("10.1.0.0/16")])
    ('', '')
    >>> refusal(ip_address("10.1.2.3")), refusal(ip_address("::ffff:127.0.0.1"))
    ('10.1.2.3 is a private address', '127.0.0.1 is a loopback address')
    >>> refusal(ip_address("169.254.169.254"), [ip_network("0.0.0.0/0")])
    '169.254.169.254 is a link-local address, which only a network of itself alone allows'
    """
    for one in _meant(address):
        if one.is_multicast or one.is_unspecified or one == IPv4Address("255.255.255.255"):
            return f"{one} is an address of no single machine"
        within = [network for network in allowed if network.version == one.version and one in network]
        alone = any(network.num_addresses == 1 for network in within)
        if one.is_link_local and not alone:
            return f"{one} is a link-local address, which only a network of itself alone allows"
        if one in _METADATA and not alone:
            return f"{one} is where a cloud hands out credentials, which only a network of itself alone allows"
        if not within and one.is_loopback:
            return f"{one} is a loopback address"
        if not within and (not one.is_global or getattr(one, "is_site_local", False)):
            return f"{one} is a private address"
    return ""


def _meant(address: Address) -> Iterator[Address]:
    """Yield every address that a packet to this one may end at: some of IPv6 carry one of IPv4."""
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo


def listed(json: str, slack: str) -> list[Webhook]:
    """Return the webhooks of the two options, or raise."""
    return [parsed(url, form) for form, text in ((Form.JSON, json), (Form.SLACK, slack)) for url in words(text)]


def problems(json: str, slack: str, hosts: str, nets: str, *, insecure: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what is wrong with the options of webhooks, with the options that it is about."""
    allowed: list[Network] = []
    for text in words(nets):
        try:
            allowed.append(ip_network(text))
        except ValueError:
            yield (
                f"alert_networks: {text} is no network; expected such as 10.1.0.0/16 or 127.0.0.1",
                ("alert_networks",),
            )
    names = {name.lower() for name in words(hosts)}
    if len(words(json)) + len(words(slack)) > COUNT_MAX:
        yield f"alert_webhooks and alert_slack_webhooks: allowed are {COUNT_MAX} together", ("alert_webhooks",)
    for option, text in (("alert_webhooks", json), ("alert_slack_webhooks", slack)):
        if len(set(words(text))) < len(words(text)):
            yield f"{option}: the same address twice", (option,)
        for place, url in enumerate(words(text), 1):
            try:
                webhook = parsed(url, Form.JSON)
            except ValueError as error:
                yield f"{option}: the address in place {place}: {error}", (option,)
                continue
            if not webhook.secure and not insecure:
                told = (
                    "alerts would travel in the clear; use https, or set allow_insecure=true if that is what you want"
                )
                yield f"{option}: {webhook}: {told}", (option, "allow_insecure")
            if names and webhook.host not in names:
                yield f"{option}: {webhook}: its host is not in alert_hosts = {hosts}", (option, "alert_hosts")
            address = literal(webhook.host)
            if address is not None and (reason := refusal(address, allowed)):
                told = f"{reason}; alert_networks allows some"
                yield f"{option}: {webhook}: {told}", (option, "alert_networks")
