"""Event classes that cannot be: what is refused when the class is declared, and what a person is told."""

from typing import Any

import msgspec
import pytest

from headrace import Event
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import OURS
from headrace.schemas.prediction import prediction_type

ROLES = {"id": str, "time": float, "key": str}


def _declare(fields: dict[str, Any], **roles: str) -> Any:
    namespace = {"__annotations__": fields, "__module__": __name__, "__qualname__": "Odd"}
    return type(Event)("Odd", (Event,), namespace, topic="odd", **roles)


@pytest.mark.parametrize("name", sorted(OURS))
@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_have_a_name_that_predictions_use(role: str, name: str) -> None:
    roles = {"id": "number", "time": "when", "key": "shop", role: name}
    fields = {roles[one]: kind for one, kind in ROLES.items()}
    with pytest.raises(BadPipeline) as told:
        _declare(fields, **roles)
    want = f'Odd: {role}="{name}" is a name that predictions use for something else'
    assert told.value.problems == (want,)


def test_a_field_that_has_no_role_may_have_any_name() -> None:
    fields = {"id": str, "at": float, "card": str, **dict.fromkeys(sorted(OURS), float)}
    assert _declare(fields, key="card").wire == ("odd", "card", "id", "at")


def test_the_names_that_predictions_use_are_all_refused() -> None:
    plain = _declare({"id": str, "at": float, "card": str}, key="card")
    made: Any = prediction_type(plain, "m", "1")
    assert {field.name for field in msgspec.structs.fields(made)} - {"id", "at", "card"} == OURS


def test_one_field_may_have_two_roles() -> None:
    both = _declare({"id": str, "at": float}, key="id")
    made: Any = prediction_type(both, "m", "1")
    assert [field.name for field in msgspec.structs.fields(made)][:3] == ["id", "at", "score"]


def test_the_type_of_predictions_is_made_once() -> None:
    plain = _declare({"id": str, "at": float, "card": str}, key="card")
    same = _declare({"id": str, "at": float, "card": str}, key="card")
    assert prediction_type(plain, "m", "1") is prediction_type(plain, "m", "1")
    assert len({prediction_type(*key) for key in ((plain, "m", "1"), (plain, "m", "2"), (plain, "n", "1"))}) == 3
    assert prediction_type(same, "m", "1") is not prediction_type(plain, "m", "1"), "classes of the same name are two"
