"""What Faust does on a stranger's word, and does not do here.

A ``__faust`` key inside a value names the class that Faust decodes it to, whatever the agent declared;
a ``Faust-Ag-ReplyTo`` header names the topic that an agent's results are sent to, with the service's own
rights. Whoever may write to an input topic could use both. On this transport neither has an effect.
"""

from collections.abc import Iterable
from typing import Any

from faust.serializers.registry import Registry

_ENVELOPE = "__faust"
_REPLY_HEADERS = "faust-ag-"


class GuardedRegistry(Registry):
    """Faust's serializers, for which ``__faust`` is a field like any other, and no field is called that."""

    def _prepare_payload(self, typ: Any, value: Any) -> Any:
        return super()._prepare_payload(typ, without_envelope(value))


def without_envelope(value: Any) -> Any:
    """Return the value without the keys that would choose a class.

    >>> without_envelope({"__faust": {"ns": "@ReqRepRequest"}, "id": 1, "in": [{"__faust": {}, "a": 2}]})
    {'id': 1, 'in': [{'a': 2}]}
    """
    if isinstance(value, dict):
        return {name: without_envelope(inner) for name, inner in value.items() if name != _ENVELOPE}
    if isinstance(value, list):
        return [without_envelope(inner) for inner in value]
    return value


def without_reply_headers(headers: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the headers without those that would send an agent's results elsewhere.

    >>> without_reply_headers([("traceparent", b"00-1"), ("Faust-Ag-ReplyTo", b"theirs")])
    [('traceparent', b'00-1')]
    """
    return [(name, value) for name, value in headers if not name.lower().startswith(_REPLY_HEADERS)]
