"""The errors that are raised on purpose. Each ends the command with its own exit code."""

from collections.abc import Sequence


class HeadraceError(Exception):
    """Something a person can act on: the text says what, where, what is allowed and what happens next."""

    code = "HEADRACE"
    exit_code = 1


class BadConfig(HeadraceError):
    """Options that cannot run, all of them at once."""

    code = "BAD_CONFIG"
    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"config cannot run ({many}):", *problems]))


class BadPipeline(HeadraceError):
    """A pipeline whose parts do not fit together, every misfit named."""

    code = "BAD_PIPELINE"
    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"pipeline cannot run ({many}):", *problems]))


class BrokerNotAvailable(HeadraceError):
    """No broker to work with: not installed, not started, or not answering."""

    code = "BROKER_NOT_AVAILABLE"
    exit_code = 3


class TopicMissing(HeadraceError):
    """A topic is not there and may not be created, or may not be used."""

    code = "TOPIC_MISSING"
    exit_code = 4


class Fenced(HeadraceError):
    """Another worker took this one's name, and the broker listens to that one now."""

    code = "FENCED"
    exit_code = 5


class Stalled(HeadraceError):
    """A partition has events and does not move."""

    code = "STALLED"
    exit_code = 6


class NotDelivered(HeadraceError):
    """The broker refused an output for good."""

    code = "NOT_DELIVERED"
    exit_code = 7


class BadFile(HeadraceError):
    """A file that cannot be read or written as asked. Nothing takes its name that is not whole."""

    code = "BAD_FILE"
    exit_code = 8


class RowsRejected(HeadraceError):
    """Rows of a file that were not scored, where none was allowed."""

    code = "ROWS_REJECTED"
    exit_code = 9


class StateLost(HeadraceError):
    """What the features remember cannot be made again from the changelog."""

    code = "STATE_LOST"
    exit_code = 10


class StateMismatch(HeadraceError):
    """What was remembered is not what this pipeline remembers."""

    code = "STATE_MISMATCH"
    exit_code = 11


class PartitionsChanged(HeadraceError):
    """A topic has another number of partitions than its state, so keys are not where their past is."""

    code = "PARTITIONS_CHANGED"
    exit_code = 12


class BadSlice(HeadraceError):
    """A part of a topic that is not there: beyond the log's ends, deleted, or without a record."""

    code = "BAD_SLICE"
    exit_code = 13

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"no such slice ({many}):", *problems]))


class PredictionsDiffer(HeadraceError):
    """What was published is not what a replay of the same events gives."""

    code = "PREDICTIONS_DIFFER"
    exit_code = 14


class BadModel(HeadraceError):
    """A trained model that cannot be used: not there, damaged, not trusted, or not what it says of itself."""

    code = "BAD_MODEL"
    exit_code = 15

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"model cannot be used ({many}):", *problems]))


class AlertUnknown(HeadraceError):
    """An alert that is not open: never raised under this id, cleared, or no longer in its topic."""

    code = "ALERT_UNKNOWN"
    exit_code = 16


class EventMissing(HeadraceError):
    """An event that is not where it was looked for: no record has its id, or there is none at its place."""

    code = "EVENT_MISSING"
    exit_code = 17


class BadReference(HeadraceError):
    """What is usual cannot be used, or cannot be told: the file is not there, damaged, or of other features."""

    code = "BAD_REFERENCE"
    exit_code = 18


class WorkerMissing(HeadraceError):
    """No worker's page answers where it was looked for."""

    code = "WORKER_MISSING"
    exit_code = 19


class Rejected(HeadraceError):
    """A record that was not scored: it is in the dead letters, with its reason. Never ends a worker."""

    code = "REJECTED"
    exit_code = 0
