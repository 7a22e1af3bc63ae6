"""Brokers as fixtures for pytest; ``headrace.testing`` has them, for a ``conftest.py`` to import."""

from collections.abc import Iterator

from headrace.schemas.errors import BrokerNotAvailable
from headrace.stream.broker import EmbeddedBroker, RealBroker, find_java, kafka_jars

try:
    import pytest
except ImportError as error:
    raise ModuleNotFoundError(
        "the brokers of headrace.testing need pytest, which is not installed: pip install 'headrace[testing]'",
        name="pytest",
    ) from error


@pytest.fixture
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """Yield librdkafka's mock cluster, new for each test."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def real_broker() -> Iterator[RealBroker]:
    """Yield Apache Kafka on loopback, one for all tests. Without Java or Maven its tests are skipped, with the reason.

    Topics and groups stay until the end of the session, so each test needs names of its own.
    """
    try:
        kafka_jars()
        find_java()
    except BrokerNotAvailable as missing:
        pytest.skip(str(missing))
    with RealBroker() as broker:
        yield broker
