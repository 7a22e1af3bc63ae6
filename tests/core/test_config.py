"""Every option: its bounds, where it may come from, which wins, and what a person is told."""

import json

import msgspec
import pytest
from core.records import config_of

from headrace.schemas.config import (
    OPTIONS,
    OWNED,
    Config,
    Given,
    Option,
    configure,
    from_environment,
    from_pairs,
    from_toml,
    json_schema,
    origins,
)
from headrace.schemas.errors import BadConfig

NUMBERS = {name: option for name, option in OPTIONS.items() if type(option.default) is int}
CHOICES = {name: option for name, option in OPTIONS.items() if option.allowed}
TRUTHS = [name for name, option in OPTIONS.items() if isinstance(option.default, bool)]
TEXTS = [name for name, option in OPTIONS.items() if option.default.__class__ is str and not option.allowed]
# Texts that have to be something in particular.
SUCH_AS = {
    "traces": "https://example.com/{}",
    "alert_webhooks": "https://example.com/{}",
    "alert_slack_webhooks": "https://example.com/{}",
    "alert_networks": "10.0.0.0/{}",
    "web_host": "127.0.0.{}",
    "web_token": "a-token-of-the-page-{}",
}
# What else must be set for an option to reach its own bound, because of a relation between the two.
COMPANY = {
    ("commit_interval_ms", 60_000): {"transaction_timeout_ms": 900_000},
    ("transaction_timeout_ms", 1_000): {"commit_interval_ms": 5},
    ("batch_count_max", 100_000): {"buffer_count_max": 1_000_000},
    ("buffer_count_max", 1): {"batch_count_max": 1},
    ("stall_red_ms", 86_400_000): None,  # must be below stall_exit_ms, which has the same greatest
    ("stall_exit_ms", 200): {"stall_red_ms": 100},
}


def _problems(*layers: dict[str, Given]) -> tuple[str, ...]:
    with pytest.raises(BadConfig) as told:
        configure(*layers)
    return told.value.problems


def _set(**options: object) -> dict[str, Given]:
    return {name: Given(value, "--set") for name, value in options.items()}


def test_every_option_is_a_field_and_every_field_an_option() -> None:
    assert set(Config.__struct_fields__) == {*OPTIONS, "kafka"}
    assert len(NUMBERS) + len(CHOICES) + len(TRUTHS) + len(TEXTS) == len(OPTIONS)


def test_the_defaults_run() -> None:
    config = configure()
    assert msgspec.structs.asdict(config) == {
        **{name: option.default for name, option in OPTIONS.items()},
        "kafka": {},
    }
    assert config.exactly_once


@pytest.mark.parametrize(("name", "option"), OPTIONS.items(), ids=OPTIONS)
def test_an_option_says_what_it_is_and_a_bound_says_why(name: str, option: Option) -> None:
    assert name == name.lower()
    assert option.text
    assert not option.text.endswith(".")
    has_bounds = option.least is not None and option.greatest is not None
    assert has_bounds == (name in NUMBERS)
    assert bool(option.why) == has_bounds, "a bound without a reason is a guess"


BOUNDS = [(name, bound) for name, option in NUMBERS.items() for bound in (option.least, option.greatest)]


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
@pytest.mark.parametrize("written", [int, str])
def test_a_number_may_be_at_its_bound(name: str, bound: int, written: type) -> None:
    company = COMPANY.get((name, bound), {})
    if company is None:
        assert "must be below" in _problems(_set(**{name: bound}))[0]
        return
    assert getattr(config_of(**{name: written(bound)}, **company), name) == bound


OUTSIDE = [
    (name, value)
    for name, option in NUMBERS.items()
    if option.least is not None and option.greatest is not None
    for value in (option.least - 1, option.greatest + 1)
]


@pytest.mark.parametrize(("name", "value"), OUTSIDE)
@pytest.mark.parametrize("source", ["headrace.toml", "--set"])
def test_a_number_beyond_its_bound_is_told_with_bounds_and_reason(name: str, value: int, source: str) -> None:
    option = OPTIONS[name]
    want = f"{name} = {value} ({source}): allowed are {option.least} to {option.greatest}; {option.why}"
    assert _problems({name: Given(value, source)}) == (want,)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["", "x", "1.5", "1e3", "true", True, 1.0, "0x10", "9" * 5_000])
def test_what_is_no_whole_number_is_told_so(name: str, value: object) -> None:
    assert _problems(_set(**{name: value})) == (f"{name} = {value} (--set): not a whole number",)


def test_a_whole_number_may_have_underscores() -> None:
    assert config_of(batch_count_max="7_5").batch_count_max == 75


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, option in CHOICES.items() for value in option.allowed]
)
def test_a_choice_may_be_each_of_its_values(name: str, value: str) -> None:
    assert getattr(config_of(**{name: value}), name) == value


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["", "other", "Exactly-Once", 3])
def test_another_choice_is_told_what_is_allowed(name: str, value: object) -> None:
    want = f"{name} = {value} (--set): allowed are {', '.join(OPTIONS[name].allowed)}"
    assert _problems(_set(**{name: value})) == (want,)


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", True, 1, "false", "False", "0", "no", False, 0])
def test_a_truth_value_may_be_written(name: str, value: object) -> None:
    assert getattr(config_of(**{name: value}), name) is (str(value).lower() in {"true", "1", "yes"})


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("value", ["", "on", "ja", 2, "None"])
def test_what_is_no_truth_value_is_told_so(name: str, value: object) -> None:
    assert _problems(_set(**{name: value})) == (f"{name} = {value} (--set): allowed are true and false",)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_taken_as_it_is(name: str) -> None:
    text = SUCH_AS.get(name, "some-text.{}").format(8)
    assert getattr(config_of(**{name: text}), name) == text


RELATIONS = {
    "commit_interval_ms": (
        {"commit_interval_ms": 2_000, "transaction_timeout_ms": 2_000},
        {"commit_interval_ms": 1_999, "transaction_timeout_ms": 2_000},
        (
            "commit_interval_ms = 2000: must be below transaction_timeout_ms = 2000, "
            "or the broker aborts every transaction before its commit"
        ),
    ),
    "commit_interval_ms, at-least-once": (
        None,
        {"commit_interval_ms": 2_000, "transaction_timeout_ms": 2_000, "guarantee": "at-least-once"},
        "",
    ),
    "stall_red_ms": (
        {"stall_red_ms": 500, "stall_exit_ms": 500},
        {"stall_red_ms": 499, "stall_exit_ms": 500},
        "stall_red_ms = 500: must be below stall_exit_ms = 500, or the worker ends before anybody was warned",
    ),
    "buffer_count_max": (
        {"buffer_count_max": 9, "batch_count_max": 10},
        {"buffer_count_max": 10, "batch_count_max": 10},
        "buffer_count_max = 9: must be at least batch_count_max = 10, or no batch is ever full",
    ),
    "web_host": (
        {"web_host": "0.0.0.0"},
        {"web_host": "0.0.0.0", "web_token": "sixteen letters."},
        (
            "web_host = 0.0.0.0: the page would be open to whoever reaches this address; set web_token to 16 "
            "characters or more, or page=false, which leaves health and metrics"
        ),
    ),
    "web_host, without the page": (None, {"web_host": "10.1.2.3", "page": "false"}, ""),
    "web_host, without a port": (None, {"web_host": "10.1.2.3", "web_port": -1}, ""),
    "web_host, another name of loopback": (None, {"web_host": "localhost"}, ""),
    "web_token": (
        {"web_token": "fifteen letters"},
        {"web_token": "sixteen letters."},
        "web_token has 15 characters; allowed are 16 or more, because it can be tried again and again",
    ),
    "topics": (
        {"topic_predictions": "a", "topic_alerts": "b", "topic_dead_letters": "a"},
        {"topic_predictions": "a", "topic_alerts": "b", "topic_dead_letters": "c"},
        "topic_predictions, topic_alerts, topic_dead_letters, topic_outcomes, topic_quality, topic_acknowledgements = "
        "a, b, a, outcomes, quality, acknowledgements: must be different topics",
    ),
    "password": (
        {"kafka.sasl.password": "hunter2"},
        {"kafka.sasl.password": "hunter2", "kafka.security.protocol": "SASL_SSL"},
        (
            "kafka.security.protocol = plaintext: a password would travel in the clear; set "
            "kafka.security.protocol=SASL_SSL, or allow_insecure=true if that is what you want"
        ),
    ),
    "password, in small letters": (
        {"kafka.security.protocol": "sasl_plaintext"},
        {"kafka.security.protocol": "sasl_ssl", "kafka.sasl.username": "me"},
        (
            "kafka.security.protocol = sasl_plaintext: a password would travel in the clear; set "
            "kafka.security.protocol=SASL_SSL, or allow_insecure=true if that is what you want"
        ),
    ),
    "password, allowed": (
        None,
        {"kafka.security.protocol": "SASL_PLAINTEXT", "kafka.sasl.password": "x", "allow_insecure": "true"},
        "",
    ),
    "TLS without a password": (None, {"kafka.security.protocol": "SSL"}, ""),
}


@pytest.mark.parametrize(("wrong", "right", "text"), RELATIONS.values(), ids=RELATIONS)
def test_options_must_go_together(wrong: dict | None, right: dict, text: str) -> None:
    config_of(**right)
    if wrong is not None:
        assert _problems(_set(**wrong)) == (text,)


def test_every_relation_that_is_broken_is_told() -> None:
    wrong = _set(
        stall_red_ms=500, stall_exit_ms=500, batch_count_max=10, buffer_count_max=9, topic_alerts="predictions"
    )
    assert [problem.split(" ")[0] for problem in _problems(wrong)] == [
        "buffer_count_max",
        "stall_red_ms",
        "topic_predictions,",
    ]


def test_relations_are_told_beside_everything_else() -> None:
    wrong = _set(
        **{
            "stall_red_ms": 500,
            "stall_exit_ms": 500,
            "web_port": "x",
            "kafka.group.id": "g",
            "kafka.sasl.username": "m",
        }
    )
    assert [problem.split(" ")[0].rstrip(":") for problem in _problems(wrong)] == [
        "kafka.group.id",
        "kafka.security.protocol",
        "stall_red_ms",
        "web_port",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "message.max.bytes",
        "metadata.broker.list",
        "queue.buffering.max.ms",
        "group.protocol",
        "delivery.report.only.error",
    ],
)
def test_another_name_for_a_property_of_ours_is_ours_too(name: str) -> None:
    assert name in OWNED


@pytest.mark.parametrize(("name", "reason"), OWNED.items(), ids=OWNED)
def test_a_property_that_a_guarantee_rests_on_cannot_be_set(name: str, reason: str) -> None:
    want = f"kafka.{name} (headrace.toml): not yours to set; {reason}"
    assert _problems({f"kafka.{name}": Given("secret-value", "headrace.toml")}) == (want,)


@pytest.mark.parametrize("name", [reason.removeprefix("set ") for reason in OWNED.values() if reason[:4] == "set "])
def test_what_an_owned_property_says_to_set_exists(name: str) -> None:
    assert name in OPTIONS


def test_any_other_property_goes_to_the_client_as_text() -> None:
    config = configure(_set(**{"kafka.compression.type": "lz4", "kafka.socket.keepalive.enable": True, "kafka.x": 5}))
    assert config.kafka == {"compression.type": "lz4", "socket.keepalive.enable": "true", "x": "5"}


@pytest.mark.parametrize("name", sorted({*OPTIONS, "kafka.compression.type"} - set(TRUTHS)))
def test_a_later_layer_wins(name: str) -> None:
    option = OPTIONS.get(name)
    if option and option.allowed:
        values = [option.allowed[place % 2] for place in range(4)]
    elif option and option.least is not None:
        values = [option.default] * 3 + [option.default + 1]
    else:
        values = [SUCH_AS.get(name, "value-{}").format(8 + place) for place in range(4)]
    environment = f"HEADRACE_{name.upper().replace('.', '_')}"
    layers = [
        from_toml(f"{name} = {json.dumps(values[0])}", "file.toml"),
        from_environment({environment: str(values[1])}),
        from_pairs([f"{name}={values[2]}"]),
        {name: Given(values[3], "--flag")},
    ]
    for count in range(1, 5):
        config = configure(*layers[:count])
        got = getattr(config, name) if option else config.kafka["compression.type"]
        assert got == values[count - 1]


def test_only_the_layer_that_wins_is_judged() -> None:
    assert configure(_set(web_port="nonsense"), {"web_port": Given("8080", "--flag")}).web_port == 8080


def test_a_problem_names_where_the_value_came_from() -> None:
    layers = [
        from_toml("batch_count_max = 0\n[kafka]\ngroup.id = 'x'", "my.toml"),
        from_environment({"HEADRACE_WEB_PORT": "70000", "HEADRACE_KAFKA_LINGER_MS": "5"}),
        from_pairs(["log_level=loud"]),
        {"guarantee": Given("maybe", "--guarantee")},
    ]
    assert [problem.split(": ")[0] for problem in _problems(*layers)] == [
        "batch_count_max = 0 (my.toml:1)",
        "guarantee = maybe (--guarantee)",
        "kafka.group.id (my.toml:3)",
        "kafka.linger.ms (HEADRACE_KAFKA_LINGER_MS)",
        "log_level = loud (--set)",
        "web_port = 70000 (HEADRACE_WEB_PORT)",
    ]


def test_all_options_that_are_wrong_are_told_at_once() -> None:
    wrong = {name: Given(option.least - 1, "--set") for name, option in NUMBERS.items() if option.least is not None}
    wrong |= _set(**dict.fromkeys(TRUTHS, "perhaps"), **dict.fromkeys(CHOICES, "other"))
    wrong |= _set(**{f"kafka.{name}": "1" for name in OWNED}, no_such_option=1)
    problems = _problems(wrong)
    assert list(problems) == sorted(problems)
    assert len(problems) == len(wrong) == len(NUMBERS) + len(TRUTHS) + len(CHOICES) + len(OWNED) + 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("comit_interval_ms", "did you mean commit_interval_ms?"),
        ("batch_count", "did you mean batch_count_max?"),
        ("topic_dead_letter", "did you mean topic_dead_letters?"),
        ("xyzzy", "see headrace config"),
        ("", "see headrace config"),
        ("kafka", "see headrace config"),
    ],
)
def test_an_unknown_option_gets_a_hint(name: str, hint: str) -> None:
    assert _problems(_set(**{name: 1})) == (f"{name} (--set): no such option; {hint}",)


SECRETS = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_never_shown(name: str) -> None:
    config = config_of(**{f"kafka.{name}": "hunter2", "kafka.security.protocol": "SASL_SSL", "kafka.client.rack": "r"})
    assert config.kafka[name] == "hunter2"
    assert config.shown()["kafka"] == {name: "********", "security.protocol": "SASL_SSL", "client.rack": "r"}
    assert "hunter2" not in str(config.shown())


def test_a_secret_is_in_no_error() -> None:
    given = _set(**{"kafka.sasl.password": "hunter2", "web_port": "x"})
    assert "hunter2" not in "".join(_problems(given))
    assert "hunter2" not in "".join(_problems({"kafka.sasl.password": Given("hunter2", "--set")}))


def test_the_environment_has_names_in_capitals_and_nothing_of_others() -> None:
    environ = {
        "HEADRACE_BATCH_COUNT_MAX": "5",
        "HEADRACE_KAFKA_SSL_CA_LOCATION": "ca.pem",
        "BROKER": "x",
        "HEADRACE": "y",
    }
    assert from_environment(environ) == {
        "batch_count_max": Given("5", "HEADRACE_BATCH_COUNT_MAX"),
        "kafka.ssl.ca.location": Given("ca.pem", "HEADRACE_KAFKA_SSL_CA_LOCATION"),
    }


def test_a_misspelt_name_in_the_environment_is_told() -> None:
    problems = _problems(from_environment({"HEADRACE_BROKERS": "x"}))
    assert problems == ("brokers (HEADRACE_BROKERS): no such option; did you mean broker?",)


@pytest.mark.parametrize("name", ["FAILPOINT", "FAILPOINT_SLEEP", "SEED", "FAULTS"])
def test_switches_of_tests_are_no_options(name: str) -> None:
    assert from_environment({f"HEADRACE_{name}": "1"}) == {}


def test_a_pair_is_split_at_its_first_equals_sign() -> None:
    assert from_pairs(["kafka.sasl.jaas = a=b ", "group="]) == {
        "kafka.sasl.jaas": Given("a=b", "--set"),
        "group": Given("", "--set"),
    }


def test_every_pair_that_is_none_is_told_beside_everything_else() -> None:
    # A name alone may be a password whose = was forgotten, behind a colon: only what is before it is told.
    given = from_pairs(["a", "web_port=x", "group", "kafka.sasl.password:hunter2", "", "log_level=info"])
    assert _problems(given) == (
        " (--set): expected name=value, with one value",
        "a (--set): expected name=value, with one value",
        "group (--set): expected name=value, with one value",
        "kafka.sasl.password (--set): expected name=value, with one value",
        "web_port = x (--set): not a whole number",
    )


@pytest.mark.parametrize("name", ["group", "web_port", "create_topics", "log_level", "kafka.compression.type", "xyzzy"])
@pytest.mark.parametrize("value", ["[]", "[1]", '["a", "b"]', "[{a = 1}]"])
def test_several_values_where_one_is_expected_are_told(name: str, value: str) -> None:
    want = f"{name} (my.toml:1): expected name=value, with one value"
    assert _problems(from_toml(f"{name} = {value}", "my.toml")) == (want,)


@pytest.mark.parametrize("name", ["broker", "topic_predictions", "topic_alerts", "topic_dead_letters"])
def test_what_cannot_be_empty_is_told_so(name: str) -> None:
    assert _problems(from_pairs([f"{name}="])) == (f"{name} is empty: {OPTIONS[name].text}",)


def test_toml_may_nest_dot_or_quote_the_properties() -> None:
    text = 'kafka."a.b" = 1\nkafka.c.d = "2"\n[kafka.e]\nf = true'
    given = from_toml(text, "x.toml")
    assert {name: value for name, (value, _) in given.items()} == {"kafka.a.b": 1, "kafka.c.d": "2", "kafka.e.f": True}
    assert configure(given).kafka == {"a.b": "1", "c.d": "2", "e.f": "true"}


def test_what_is_not_toml_is_told_with_its_line() -> None:
    with pytest.raises(BadConfig, match=r"x\.toml: not TOML: .+ \(at line 2, column \d+\)"):
        from_toml("a = 1\nb b", "x.toml")


def test_a_value_of_a_file_is_told_with_the_line_in_which_it_begins() -> None:
    text = (
        '# group = "not this one"\n'
        "\n"
        'group = "cards" # kafka\n'
        'broker = """\n'
        "web_port = 1\n"
        '# a:1"""\n'
        "[kafka]\r\n"
        "# sasl\n"
        'sasl.username = "me"\n'
        '"client.id" = "it"\n'
        "[kafka.compression]\n"
        'type = "lz4"'
    )
    given = from_toml(text, "x.toml")
    assert {name: source for name, (_, source) in given.items()} == {
        "group": "x.toml:3",
        "broker": "x.toml:4",
        "kafka.sasl.username": "x.toml:9",
        "kafka.client.id": "x.toml:10",
        "kafka.compression.type": "x.toml:12",
    }


def test_a_file_that_is_very_long_is_read_all_the_same() -> None:
    given = from_toml("# nothing\n" * 5_000 + 'group = "cards"', "x.toml")
    assert given == {"group": Given("cards", "x.toml")}


def test_each_value_is_told_with_where_it_was_given_and_what_it_overrides() -> None:
    layers = (
        {"group": Given("a", "headrace.toml:1"), "kafka.sasl.password": Given("hunter1", "headrace.toml:2")},
        {
            "kafka.sasl.password": Given("hunter2", "HEADRACE_KAFKA_SASL_PASSWORD"),
            "group": Given("b", "HEADRACE_GROUP"),
        },
        {"group": Given("c", "--set"), "allow_insecure": Given("true", "--set")},
    )
    found = {one.name: one for one in origins(configure(*layers), *layers)}
    assert list(found) == [*OPTIONS, "kafka.sasl.password"]
    assert found["group"][1:] == ("c", "--set", (Given("b", "HEADRACE_GROUP"), Given("a", "headrace.toml:1")))
    assert found["web_port"][1:] == (0, "default", ())
    assert found["allow_insecure"].value is True
    assert found["kafka.sasl.password"].source == "HEADRACE_KAFKA_SASL_PASSWORD"
    assert "hunter" not in repr(found)


def test_the_schema_for_editors_has_every_option_with_its_bounds_and_no_other() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == [*OPTIONS, "kafka"]
    assert schema["additionalProperties"] is False
    for name, option in OPTIONS.items():
        row = schema["properties"][name]
        assert isinstance(option.default, {"boolean": bool, "integer": int, "string": str}[row["type"]]), name
        assert (row.get("minimum"), row.get("maximum")) == (option.least, option.greatest)
        assert tuple(row.get("enum", ())) == option.allowed
        assert row["default"] == option.default
        assert option.text in row["description"]
    assert set(schema["properties"]["kafka"]["propertyNames"]["not"]["enum"]) == set(OWNED)
