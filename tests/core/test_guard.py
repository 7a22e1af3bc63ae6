"""What a stranger may write into a record, and what it does not do."""

import faust
import msgspec
import pytest
from faust.models import registry
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.stream.guard import GuardedRegistry, without_envelope, without_reply_headers

fixed = settings(derandomize=True, deadline=None, max_examples=100)


class Declared(faust.Record):
    """What an agent asked for."""

    id: int


class Other(faust.Record, namespace="test.guard.Other"):
    """What a stranger would like it to be."""

    id: int


def test_a_value_does_not_choose_its_own_class() -> None:
    assert "test.guard.Other" in registry
    value = msgspec.json.encode({"__faust": {"ns": "test.guard.Other"}, "id": 7})
    ours = GuardedRegistry(key_serializer="raw", value_serializer="json")
    assert ours.loads_value(None, value) == {"id": 7}
    made = ours.loads_value(Declared, value)
    assert type(made) is Declared
    # Negative control: what Faust's own does with it.
    theirs = faust.serializers.registry.Registry(key_serializer="raw", value_serializer="json")
    assert type(theirs.loads_value(None, value)) is Other


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "__faust"]), inner),
    max_leaves=20,
)


@given(json_values)
@fixed
def test_no_depth_hides_an_envelope(value: object) -> None:
    clean = without_envelope(value)
    assert b'"__faust"' not in msgspec.json.encode(clean)
    assert without_envelope(clean) == clean


def test_what_has_no_envelope_is_as_it_was() -> None:
    value = {"a": [1, {"b": None}], "faust": "x"}
    assert without_envelope(value) == value


@pytest.mark.parametrize("name", ["Faust-Ag-ReplyTo", "FAUST-AG-CORRELATIONID", "faust-ag-anything"])
def test_reply_headers_are_taken_away_in_any_case(name: str) -> None:
    assert without_reply_headers([(name, b"x"), ("Faust-Agent", b"stays"), (name, None)]) == [("Faust-Agent", b"stays")]


def test_other_headers_keep_their_order_and_their_doubles() -> None:
    headers = [("b", b"1"), ("a", None), ("b", b"2")]
    assert without_reply_headers(headers) == headers
