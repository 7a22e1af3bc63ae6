"""What tests of a pipeline need: a driver without a broker, streams of events, laws, and brokers.

>>> from headrace.testing import Driver, check_laws, events

Hypothesis is imported when ``events`` is called, and pytest when a broker is imported, so neither has to be there for
the rest.
"""

from typing import TYPE_CHECKING, Any

from headrace.models.laws import check as check_laws
from headrace.stream.driver import DeadLetter, Driver, Kept, Record
from headrace.stream.strategies import events

if TYPE_CHECKING:
    from headrace.stream.fixtures import embedded_broker, real_broker

__all__ = ["DeadLetter", "Driver", "Kept", "Record", "check_laws", "embedded_broker", "events", "real_broker"]


def __getattr__(name: str) -> Any:
    # Not an entry point of pytest's: that would import Headrace into every run of tests on the machine.
    if name in {"embedded_broker", "real_broker"}:
        from headrace.stream import fixtures  # noqa: PLC0415 - needs pytest

        return getattr(fixtures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
