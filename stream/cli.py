"""The command line. The only place that reads the environment."""

import argparse
import getpass
import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace import __version__
from headrace.schemas.config import (
    AT_LEAST_ONCE,
    EXACTLY_ONCE,
    OPTIONS,
    Config,
    Given,
    configure,
    from_environment,
    from_pairs,
    from_toml,
    json_schema,
    origins,
)
from headrace.schemas.errors import BadConfig, BadReference, HeadraceError
from headrace.schemas.position import COMMITTED, EARLIEST, LATEST, NONE, WORDS, Asked, Position
from headrace.stream import commands as more

FORMATS = ("jsonl", "csv", "parquet")
EXAMPLES = ("ctr", "fraud")
CONFIG_FILE = "headrace.toml"
COLUMN_MAX = 60  # where what stands beside the options begins at the latest


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and end with its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has read enough, as head does; the interpreter would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except HeadraceError as error:
        code = error.exit_code
        if getattr(options, "logs_are_json", False):
            from headrace.stream import logs  # noqa: PLC0415 - it is loaded by now

            logs.tell(error)
        else:
            from headrace.stream import terminal  # noqa: PLC0415 - it is wanted here alone

            print(terminal.fitted(f"{error.code}: {error}", sys.stderr), file=sys.stderr, flush=True)  # noqa: T201
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headrace", description="Score every Kafka event once, and lose nothing.")
    parser.add_argument("--version", action="version", version=f"headrace {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a pipeline on a broker until Ctrl-C")
    run.add_argument("path", metavar="PATH", help="a Python file, a folder with a pipeline.py, or a module")
    run.add_argument("--dry-run", action="store_true", help="publish and commit nothing; print what would have been")
    run.add_argument("--json", action="store_true", help="with --dry-run: print it as lines of JSON")
    run.add_argument("--log-format", metavar="auto|text|json", help=OPTIONS["log_format"].text)
    _add_options(run)
    run.set_defaults(command=_run)

    demo = commands.add_parser("demo", help="see an example at work, on a broker inside this process")
    demo.add_argument(
        "example", nargs="?", choices=EXAMPLES, default="fraud", help="clicks, or card fraud (default: fraud)"
    )
    demo.add_argument(
        "--events", type=int, default=0, metavar="N", help="stop after N events (default: run until Ctrl-C)"
    )
    demo.add_argument("--seconds", type=float, default=0.0, metavar="N", help="stop after N seconds")
    course = demo.add_mutually_exclusive_group()
    course.add_argument("--stationary", action="store_true", help="let the world stay as it is")
    course.add_argument(
        "--passing", action="store_true", help="let the world be again what it was, for the last quarter"
    )
    demo.add_argument("--rate", type=int, default=2_000, metavar="N", help="events per second (default: 2000)")
    demo.add_argument(
        "--produce-only", action="store_true", help="no broker and no worker: produce, to the broker of --broker"
    )
    demo.add_argument("--json", action="store_true", help="print the summary as JSON, and nothing else")
    _add_options(demo)
    demo.set_defaults(command=_demo)

    score = commands.add_parser("score", help="score a file: JSON lines, CSV or Parquet")
    score.add_argument("path", metavar="PIPELINE", help="a Python file, a folder with a pipeline.py, or a module")
    score.add_argument("source", metavar="FILE", help="the events: .jsonl, .csv or .parquet; - is stdin, as JSON lines")
    score.add_argument(
        "-o", "--out", default="-", metavar="OUT", help="the predictions; - is stdout, as JSON lines (default)"
    )
    score.add_argument("--format", choices=FORMATS, help="what FILE is (default: as its suffix says)")
    score.add_argument("--out-format", choices=FORMATS, help="what OUT becomes (default: as its suffix says)")
    score.add_argument("--dead-letters", metavar="FILE", help="rows that were not scored, each with its reason")
    score.add_argument("--strict", action="store_true", help="a rejected row ends the command, and OUT is not written")
    score.add_argument("--force", action="store_true", help="replace files that are there already")
    score.set_defaults(command=_score)

    replay = commands.add_parser("replay", help="score a part of a topic again, beside the workers")
    _add_slice(replay, end=LATEST)
    out = replay.add_mutually_exclusive_group()
    out.add_argument("-o", "--out", default="-", metavar="OUT", help="a file; - is stdout, as JSON lines (default)")
    out.add_argument("--to-topic", metavar="T", help="a topic of its own, which is made if it is missing")
    replay.add_argument("--out-format", choices=FORMATS, help="what OUT becomes (default: as its suffix says)")
    replay.add_argument("--dead-letters", metavar="FILE", help="records that were not scored, each with its reason")
    replay.add_argument("--force", action="store_true", help="replace files that are there already")
    pace = replay.add_mutually_exclusive_group()
    pace.add_argument("--rate", metavar="N", help="at most N predictions in a second (default: as fast as it goes)")
    pace.add_argument("--speed", metavar="Nx", help="as fast as event time went, or N times as fast")
    replay.set_defaults(command=_replay)

    parity = commands.add_parser("parity", help="compare what was published with a replay of the same events")
    _add_slice(parity, end=COMMITTED)
    parity.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    parity.set_defaults(command=_parity)

    alerts = commands.add_parser("alerts", help="forward alerts to webhooks until Ctrl-C; list and acknowledge them")
    alerts.add_argument(
        "action", nargs="?", choices=("ls", "ack"), help="ls lists the open alerts, ack acknowledges one"
    )
    alerts.add_argument("id", nargs="?", metavar="ID", help="the alert that is acknowledged")
    alerts.add_argument("--list", action="store_true", help="the same as ls")
    alerts.add_argument("--json", action="store_true", help="list them as JSON lines")
    alerts.add_argument("--by", metavar="NAME", help="who acknowledges (default: the user)")
    alerts.add_argument("--note", default="", metavar="TEXT", help="what is said with it")
    alerts.add_argument("--log-format", metavar="auto|text|json", help=OPTIONS["log_format"].text)
    alerts.add_argument("--webhook", action="append", metavar="URL", help="gets each alert as JSON; as often as needed")
    alerts.add_argument("--slack", action="append", metavar="URL", help="gets each alert as a message of Slack's")
    _add_options(alerts)
    alerts.set_defaults(command=_alerts)
    explain = commands.add_parser("explain", help="tell the whole story of one event, from the topics as they are")
    _add_slice(explain, end=LATEST)
    explain.add_argument("id", metavar="ID", help="the event's id, or TOPIC:PARTITION:OFFSET")
    explain.add_argument("--json", action="store_true", help="print the story as JSON, and nothing else")
    explain.set_defaults(command=_explain)

    drift = commands.add_parser("drift", help="learn what is usual, and report what moved")
    kinds = drift.add_subparsers(required=True, metavar="WHAT")
    learn = kinds.add_parser("learn", help="learn what is usual from a file, or from a part of the topic")
    _add_slice(learn, end=LATEST)
    learn.add_argument(
        "source", nargs="?", metavar="FILE", help="events: .jsonl, .csv or .parquet (default: the topic)"
    )
    learn.set_defaults(command=_learn)
    report = kinds.add_parser("report", help="write a page of what moved in a period, from the topics as they are")
    report.add_argument("path", metavar="PIPELINE", help="a Python file, a folder with a pipeline.py, or a module")
    report.add_argument(
        "--from",
        dest="begin",
        default=EARLIEST,
        metavar="TIME",
        help=f"of the events, as @TIME, or {EARLIEST} (default: {EARLIEST})",
    )
    report.add_argument(
        "--to", dest="end", default=LATEST, metavar="TIME", help=f"the first to leave out (default: {LATEST})"
    )
    report.add_argument("-o", "--out", default="-", metavar="OUT", help="the page, of HTML; - is stdout (default)")
    report.add_argument("--json", action="store_true", help="write the numbers as JSON, and no page")
    report.add_argument("--force", action="store_true", help="replace a file that is there already")
    _add_options(report)
    report.set_defaults(command=_report)

    config = commands.add_parser("config", help="show every option, its value, its bounds, and where it comes from")
    config.add_argument(
        "what",
        nargs="?",
        choices=("list", "show", "schema"),
        default="list",
        help="list: what each is and may be (default); show: what each is set to, and where; schema: JSON Schema",
    )
    config.add_argument("--json", action="store_true", help="print what show shows as JSON")
    _add_options(config)
    config.set_defaults(command=_config)

    more.add(parser, commands, _add_options, _options)
    return parser


def _add_slice(parser: argparse.ArgumentParser, *, end: str) -> None:
    parser.add_argument("path", metavar="PIPELINE", help="a Python file, a folder with a pipeline.py, or a module")
    parser.add_argument("--topic", metavar="T", help="the events (default: the topic of the pipeline)")
    parser.add_argument(
        "--from",
        dest="begin",
        default=EARLIEST,
        metavar="POSITION",
        help=f"an offset, @TIME, {', '.join(WORDS)} (default: {EARLIEST})",
    )
    parser.add_argument(
        "--to", dest="end", default=end, metavar="POSITION", help=f"the first record to leave out (default: {end})"
    )
    parser.add_argument(
        "--warm-up",
        default=EARLIEST,
        metavar="POSITION",
        help=f"from where on features remember, or {NONE} (default: {EARLIEST})",
    )
    parser.add_argument(
        "--partition", type=int, nargs="+", action="extend", default=[], metavar="N", help="these alone (default: all)"
    )
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", metavar="H:P", help=OPTIONS["broker"].text)
    parser.add_argument("--group", metavar="G", help=OPTIONS["group"].text)
    parser.add_argument("--guarantee", metavar=f"{EXACTLY_ONCE}|{AT_LEAST_ONCE}", help=OPTIONS["guarantee"].text)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="k=v",
        dest="pairs",
        help="any option; headrace config lists them",
    )
    parser.add_argument("--config", metavar="FILE", help=f"options in TOML (default: {CONFIG_FILE}, if it is there)")


def _options(options: argparse.Namespace, environ: Mapping[str, str], **defaults: str) -> Config:
    return configure(*_layers(options, environ, **defaults))


def _layers(options: argparse.Namespace, environ: Mapping[str, str], **defaults: str) -> list[dict[str, Given]]:
    """Return what was given for the options and where, what counts more after what counts less."""
    file = Path(options.config or CONFIG_FILE)
    from_file = {}
    if file.is_file():
        from_file = from_toml(file.read_text(errors="replace"), str(file))
    elif options.config:
        raise BadConfig([f"--config {options.config}: no such file"])
    flags = {
        name: Given(value, f"--{name.replace('_', '-')}")
        for name in ("broker", "group", "guarantee", "log_format")
        if (value := getattr(options, name, None)) is not None
    }
    for flag, name in (("webhook", "alert_webhooks"), ("slack", "alert_slack_webhooks")):
        if given := getattr(options, flag, None):
            flags[name] = Given(",".join(given), f"--{flag}")
    ours = {name: Given(value, "the command") for name, value in defaults.items()}
    return [ours, from_file, from_environment(environ), from_pairs(options.pairs), flags]


def _run(options: argparse.Namespace) -> int:
    if options.json and not options.dry_run:
        raise BadConfig(["--json: a worker logs to standard error; with --dry-run what it would publish is printed"])
    config = _options(options, os.environ)
    # Late, because the clients take a moment to import, and a wrong option should be told at once.
    from headrace.stream import failpoint, load, logs  # noqa: PLC0415
    from headrace.stream.run import run  # noqa: PLC0415

    options.logs_are_json = logs.set_up(config.log_level, form=config.log_format)
    failpoint.arm(os.environ)
    pipeline, extensions = load.load(options.path)
    run(pipeline, config, extensions=extensions, dry=options.dry_run, as_json=options.json)
    return 0


def _demo(options: argparse.Namespace) -> int:
    # The embedded broker answers to transactions without keeping what they promise.
    config = _options(options, os.environ, guarantee=AT_LEAST_ONCE)
    if options.rate < 1:
        raise BadConfig([f"--rate {options.rate}: allowed is a whole number above zero"])
    if options.produce_only:
        from headrace.stream import logs  # noqa: PLC0415 - late, as above
        from headrace.stream.feed import feed as play  # noqa: PLC0415

        options.logs_are_json = logs.set_up(config.log_level, form=config.log_format)
    else:
        from headrace.stream.demo import demo as play  # noqa: PLC0415

    return play(
        config,
        example=options.example,
        events=options.events,
        seconds=options.seconds,
        rate=options.rate,
        as_json=options.json,
        course="stays" if options.stationary else "passes" if options.passing else "changes",
    )


def _score(options: argparse.Namespace) -> int:
    from headrace.stream import batch, load  # noqa: PLC0415 - late, as above

    batch.main(
        load.load_pipeline(options.path),
        options.source,
        options.out,
        source_format=options.format,
        target_format=options.out_format,
        dead_letters=options.dead_letters,
        strict=options.strict,
        force=options.force,
    )
    return 0


def _replay(options: argparse.Namespace) -> int:
    config, positions = _options(options, os.environ), _positions(options)
    rate, speed = _pace(options)
    from headrace.stream import load, logs, replay  # noqa: PLC0415 - late, as above

    logs.set_up(config.log_level)
    pipeline = load.load_pipeline(options.path)
    replay.main(
        pipeline,
        config,
        Asked(options.topic or pipeline.wire.topic, *positions),
        out=options.out,
        out_format=options.out_format,
        force=options.force,
        to_topic=options.to_topic,
        dead_letters=options.dead_letters,
        rate=rate,
        speed=speed,
    )
    return 0


def _parity(options: argparse.Namespace) -> int:
    config, positions = _options(options, os.environ), _positions(options)
    from headrace.stream import load, logs, parity  # noqa: PLC0415 - late, as above

    logs.set_up(config.log_level)
    pipeline = load.load_pipeline(options.path)
    parity.main(pipeline, config, Asked(options.topic or pipeline.wire.topic, *positions), as_json=options.json)
    return 0


def _explain(options: argparse.Namespace) -> int:
    config, positions = _options(options, os.environ), _positions(options)
    from headrace.stream import explain, load, logs  # noqa: PLC0415 - late, as above

    logs.set_up(config.log_level)
    pipeline = load.load_pipeline(options.path)
    asked = Asked(options.topic or pipeline.wire.topic, *positions)
    explain.main(pipeline, config, options.id, asked, as_json=options.json)
    return 0


def _learn(options: argparse.Namespace) -> int:
    config, positions = _options(options, os.environ), _positions(options)
    from headrace.stream import drift, load, logs  # noqa: PLC0415 - late, as above

    logs.set_up(config.log_level)
    with drift.to_be_learned() as wanted:
        pipeline = load.load_pipeline(options.path)
    if len(wanted) != 1:
        raise BadReference(f"{options.path}: it says watch=Drift(...) {len(wanted)} times, and what it says is learned")
    asked = Asked(options.topic or pipeline.wire.topic, *positions)
    print(drift.learn(pipeline, wanted[0], source=options.source, config=config, asked=asked))  # noqa: T201
    return 0


def _report(options: argparse.Namespace) -> int:
    config = _options(options, os.environ)
    options.warm_up, options.partition = NONE, []  # events are not read
    begin, end, *_ = _positions(options)
    from headrace.stream import load, logs, report  # noqa: PLC0415 - late, as above

    logs.set_up(config.log_level)
    period = report.Period.asked(begin, end)
    pipeline = load.load_pipeline(options.path)
    report.main(pipeline, config, period, out=options.out, force=options.force, as_json=options.json)
    return 0


def _positions(options: argparse.Namespace) -> tuple[Position, Position, Position | None, tuple[int, ...]]:
    """Return the slice that was asked for, or raise with everything that is no position."""
    problems, found = [], []
    for flag, text in (("--from", options.begin), ("--to", options.end), ("--warm-up", options.warm_up)):
        try:
            found.append(None if flag == "--warm-up" and text == NONE else Position.parsed(text))
        except ValueError as error:
            problems.append(f"{flag} {text}: {error}{f', {NONE}' if flag == '--warm-up' else ''}")
    problems += [f"--partition {number}: partitions are counted from 0" for number in options.partition if number < 0]
    if problems:
        raise BadConfig(problems)
    begin, end, warm_up = found
    assert begin is not None
    assert end is not None
    for unit in ("offset", "time_ms"):
        first, last = getattr(begin, unit), getattr(end, unit)
        if first is not None and last is not None and first >= last:
            raise BadConfig([f"--from {begin.said} --to {end.said}: nothing is between them"])
    return begin, end, warm_up, tuple(options.partition)


def _pace(options: argparse.Namespace) -> tuple[float | None, float | None]:
    found: list[float | None] = []
    for flag, text in (("--rate", options.rate), ("--speed", options.speed)):
        try:
            number = None if text is None else float(text.removesuffix("x") if flag == "--speed" else text)
        except ValueError:
            number = math.nan
        if number is not None and not 0 < number < math.inf:
            raise BadConfig([f"{flag} {text}: allowed is a number above zero"])
        found.append(number)
    rate, speed = found
    return rate, speed


def _alerts(options: argparse.Namespace) -> int:
    problems = []
    listing = options.list or options.action == "ls"
    if (options.action == "ack") != (options.id is not None):
        problems.append("headrace alerts: ack and an ID belong together")
    if listing and options.action == "ack":
        problems.append("headrace alerts: --list or ack, not both")
    if options.json and not listing:
        problems.append("--json: only with ls")
    if (options.by is not None or options.note) and options.action != "ack":
        problems.append("--by and --note: only with ack")
    if problems:
        raise BadConfig(problems)
    config = _options(options, os.environ)
    from headrace.stream import alerts, logs  # noqa: PLC0415 - late, as above

    # What forwards runs for as long as a worker does, and its logs are collected as a worker's are.
    form = logs.TEXT if options.action or options.list else config.log_format
    options.logs_are_json = logs.set_up(config.log_level, form=form)
    if listing:
        alerts.show(config, as_json=options.json)
    elif options.action == "ack":
        alerts.acknowledge(config, options.id, by=_user() if options.by is None else options.by, note=options.note)
    else:
        alerts.forward(config)
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return ""


def _config(options: argparse.Namespace) -> int:
    if options.what == "schema":
        print(json.dumps(json_schema(), indent=2))  # noqa: T201
        return 0
    layers = _layers(options, os.environ)
    config = configure(*layers)
    if options.what == "list" and not options.json:
        _list(config)
        return 0
    found = origins(config, *layers)
    if options.json:
        for one in found:
            print(json.dumps({**one._asdict(), "over": [given._asdict() for given in one.over]}))  # noqa: T201
        return 0
    written = [f"{one.name} = {_toml(one.value)}" for one in found]
    width = max(len(line) for line in written if len(line) < COLUMN_MAX)
    for line, one in zip(written, found, strict=True):
        over = "".join(f", over {_toml(given.value)} of {given.source}" for given in one.over)
        print(f"{line:{width}}  # {one.source}{over}")  # noqa: T201
    return 0


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # of strings, numbers and truths both write the same


def _list(config: Config) -> None:
    shown = config.shown()
    for name, option in OPTIONS.items():
        bounds = ", ".join(option.allowed) or (
            f"{option.least} to {option.greatest}" if option.least is not None else ""
        )
        print(f"{name} = {shown[name]}")  # noqa: T201
        print(f"    {option.text}{f' [{bounds}]' if bounds else ''}")  # noqa: T201
    for name, value in sorted(shown["kafka"].items()):
        print(f"kafka.{name} = {value}")  # noqa: T201


if __name__ == "__main__":
    main()
