"""What topics a pipeline needs: what is made, what is left alone, and what is refused. No broker: topics are given."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from core.records import config_of, fraud

from headrace import Pipeline
from headrace.stream.checks_broker import Topic
from headrace.stream.load import load_pipeline
from headrace.stream.topic_plan import CREATE, GROW, KEEP, REFUSE, SET, planned


@pytest.fixture(scope="module")
def learning() -> Pipeline:
    return load_pipeline(str(Path(__file__).resolve().parents[2] / "examples/fraud"))


CONFIG = config_of(group="g", topic_partitions=4)
OUTPUTS = ("predictions", "alerts", "dead-letters", "outcomes", "quality")
SLICES = ("g-slices", "g-slices-state")  # one worker looks at them for all


def _there(counts: Mapping[str, int], policy: str = "compact") -> dict[str, Topic]:
    return {name: Topic(count, 1, {"cleanup.policy": policy}) for name, count in counts.items()}


def _actions(
    pipeline: Pipeline, known: Mapping[str, Topic], partitions: int | None = None
) -> dict[str, tuple[str, int]]:
    steps = planned(pipeline, CONFIG, known, partitions=partitions)
    return {step.topic: (step.action, step.partitions) for step in steps}


def test_where_nothing_is_everything_is_made_with_as_many_partitions(learning: Pipeline) -> None:
    names = ("transactions", "labels", "acknowledgements", *OUTPUTS, "g-state")
    assert _actions(learning, {}) == dict.fromkeys(names, (CREATE, 4)) | dict.fromkeys(SLICES, (CREATE, 1))
    (state,) = [step for step in planned(learning, CONFIG, {}) if step.topic == "g-state"]
    assert state.properties["cleanup.policy"] == "compact"


def test_labels_and_changelog_follow_the_events(learning: Pipeline) -> None:
    found = _actions(learning, _there({"transactions": 12}))
    assert found["transactions"] == (KEEP, 12)
    assert found["labels"] == found["g-state"] == (CREATE, 12)
    assert found["predictions"] == (CREATE, 4)


@pytest.mark.parametrize(
    ("counts", "partitions", "refused"),
    [
        ({"transactions": 4, "labels": 3}, None, {"labels"}),
        ({"transactions": 4, "labels": 4, "g-state": 8}, None, {"g-state"}),
        ({"transactions": 4, "labels": 4, "g-state": 4}, 8, {"transactions", "labels", "g-state"}),
        ({"g-state": 3}, None, {"g-state"}),
    ],
)
def test_what_would_take_keys_from_their_past_is_refused(
    learning: Pipeline, counts: dict[str, int], partitions: int | None, refused: set[str]
) -> None:
    found = _actions(learning, _there(counts), partitions)
    assert {name for name, (action, _) in found.items() if action == REFUSE} == refused


def test_without_anything_kept_by_key_the_events_may_have_more_partitions() -> None:
    assert _actions(fraud, _there({"transactions": 4}), 8)["transactions"] == (GROW, 8)
    assert _actions(fraud, _there({"transactions": 4}), 2)["transactions"] == (REFUSE, 4)
    assert _actions(fraud, _there({"transactions": 4}))["transactions"] == (KEEP, 4)


def test_a_changelog_that_is_deleted_with_time_is_set_right(learning: Pipeline) -> None:
    known = _there({"transactions": 4, "g-state": 4}, policy="delete")
    (step,) = [step for step in planned(learning, CONFIG, known) if step.topic == "g-state"]
    assert (step.action, step.properties) == (SET, {"cleanup.policy": "compact"})


def test_topics_as_they_should_be_are_left_alone(learning: Pipeline) -> None:
    known = _there(dict.fromkeys(("transactions", "labels", "acknowledgements", *OUTPUTS, "g-state"), 4))
    known |= _there(dict.fromkeys(SLICES, 1))
    assert _actions(learning, known) == {name: (KEEP, topic.partitions) for name, topic in known.items()}


def test_what_one_worker_reads_for_all_has_one_partition_or_is_refused(learning: Pipeline) -> None:
    known = _there({"transactions": 4, "g-slices": 3, "g-slices-state": 1}, policy="delete")
    steps = {step.topic: step for step in planned(learning, CONFIG, known)}
    assert (steps["g-slices"].action, steps["g-slices"].partitions) == (REFUSE, 3)
    assert "one order" in steps["g-slices"].told
    state = steps["g-slices-state"]
    assert (state.action, state.partitions, state.properties) == (SET, 1, {"cleanup.policy": "compact"})


def test_a_shared_learner_has_topics_of_its_own_and_those_that_are_kept_are_compacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAULTS_LEARNER", "shared")
    pipeline = load_pipeline(str(Path(__file__).resolve().parents[1] / "faults/learning.py"))
    steps = {step.topic: step for step in planned(pipeline, CONFIG, {})}
    made = {name: (steps[name].action, steps[name].partitions) for name in steps if name.startswith("g-le")}
    assert made == dict.fromkeys(("g-lessons", "g-learner", "g-learner-state"), (CREATE, 1))
    assert {name for name in made if steps[name].properties} == {"g-learner", "g-learner-state"}
