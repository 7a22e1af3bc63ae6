"""The commands beside ``headrace run``: what a person asks before the start, meanwhile and afterwards."""

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

from headrace.schemas.config import AT_LEAST_ONCE, OPTIONS, Config
from headrace.schemas.dead_letter import Reason
from headrace.schemas.errors import BadConfig

PIPELINE = "a Python file, a folder with a pipeline.py, or a module"
SHELLS = ("bash", "zsh", "fish")
TEMPLATES = ("fraud", "clicks")
NOBODY = "nobody:1"  # what stands for a broker that nobody gave
AsConfig = Callable[..., Config]  # from what was given on the command line, and the environment


def add(
    parser: argparse.ArgumentParser,
    commands: Any,
    add_options: Callable[[argparse.ArgumentParser], None],
    configured: AsConfig,
) -> None:
    """Add the commands to the parser. What they do is loaded when they are run, so that help comes at once."""
    init = commands.add_parser("init", help="make a project that runs and has a passing test, to begin from")
    init.add_argument("name", metavar="NAME", help="a folder, which is made; its name is the pipeline's")
    init.add_argument("--template", choices=TEMPLATES, default="fraud", help="what it begins as (default: fraud)")
    init.set_defaults(command=_init)

    doctor = commands.add_parser("doctor", help="look for everything that could be wrong before the start")
    doctor.add_argument("path", metavar="PIPELINE", help=PIPELINE)
    doctor.add_argument("--all", action="store_true", help="print the checks that are well, too")
    doctor.add_argument("--json", action="store_true", help="print an object of JSON for each check")
    add_options(doctor)
    doctor.set_defaults(command=lambda options: _doctor(options, configured, os.environ))

    dev = commands.add_parser("dev", help="run a pipeline, and begin anew whenever it is saved")
    dev.add_argument("path", metavar="PIPELINE", help=PIPELINE)
    dev.add_argument("--embedded", action="store_true", help="on a broker inside this process, whatever is configured")
    dev.add_argument("--log-format", metavar="auto|text|json", help=OPTIONS["log_format"].text)
    dev.add_argument("--watch", action="append", default=[], metavar="PATH", help="a file or folder to watch, too")
    add_options(dev)
    dev.set_defaults(command=lambda options: _dev(options, configured, os.environ))

    _add_top(commands, configured)
    _add_dlq(commands, add_options, configured)
    _add_schema(commands, add_options, configured)
    _add_topics(commands, add_options, configured)
    completion = commands.add_parser("completion", help="print what a shell needs to complete this command line")
    completion.add_argument("shell", choices=SHELLS, help="source <(headrace completion bash)")
    completion.set_defaults(command=lambda options: _complete(parser, options.shell))


def _add_top(commands: Any, configured: AsConfig) -> None:
    top = commands.add_parser("top", help="show a group at work in the terminal, from its workers' pages")
    top.add_argument(
        "urls", nargs="*", metavar="URL", help="of workers' pages, as their lines ready say (default: by web_port)"
    )
    top.add_argument("--url", action="append", default=[], metavar="URL", help="the same; as often as needed")
    top.add_argument("--once", action="store_true", help="print one frame and end, as off a terminal")
    top.add_argument("--json", action="store_true", help="print one object of JSON and end")
    top.add_argument("--set", action="append", default=[], metavar="k=v", dest="pairs", help="such as web_port")
    top.add_argument("--config", metavar="FILE", help="options in TOML (default: headrace.toml, if it is there)")
    top.set_defaults(command=lambda options: _top(options, configured, os.environ))


def _top(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    config = configured(options, environ)
    from headrace.stream import top  # noqa: PLC0415 - late, as below

    return top.main([*options.urls, *options.url], config, once=options.once, as_json=options.json)


def _dev(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    config = configured(options, environ, broker=NOBODY)
    embedded = options.embedded or config.broker == NOBODY
    if embedded:
        # The embedded broker answers to transactions without keeping what they promise.
        config = configured(options, environ, guarantee=AT_LEAST_ONCE)
    named = ("broker", "group", "guarantee", "log_format")
    given = [f"--{name.replace('_', '-')}={value}" for name in named if (value := getattr(options, name))]
    given += [f"--set={pair}" for pair in options.pairs] + ([f"--config={options.config}"] if options.config else [])
    from headrace.stream import dev  # noqa: PLC0415 - late, as below

    files = [*options.watch, options.config or "headrace.toml"]
    return dev.main(options.path, config, given, environ, embedded=embedded, files=files)


def _add_dlq(commands: Any, add_options: Callable[[argparse.ArgumentParser], None], configured: AsConfig) -> None:
    dlq = commands.add_parser("dlq", help="look at what cannot be scored, and have it scored again")
    dlq.set_defaults(command=lambda options: _dlq(options, configured, os.environ))
    whats = dlq.add_subparsers(required=True, metavar="WHAT", dest="what")
    ls = whats.add_parser("ls", help="count dead letters by reason, with the newest of each")
    show = whats.add_parser("show", help="print one, with its headers and its value as it came")
    retry = whats.add_parser("retry", help="publish them to where they came from, each once")
    for parser in (ls, show, retry):
        parser.add_argument("path", metavar="PIPELINE", help=PIPELINE)
    show.add_argument("place", metavar="PARTITION:OFFSET", help="which, as ls prints it")
    retry.add_argument("--reason", metavar="R", help="those of this reason alone")
    retry.add_argument("--limit", type=int, metavar="N", help="N at the most")
    retry.add_argument("--dry-run", action="store_true", help="publish nothing; print how many it would be")
    for parser in (ls, show, retry):
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_options(parser)


def _add_schema(commands: Any, add_options: Callable[[argparse.ArgumentParser], None], configured: AsConfig) -> None:
    schema = commands.add_parser("schema", help="say what is on the wire, and whether events of before can be read")
    schema.set_defaults(command=lambda options: _schema(options, configured, os.environ))
    whats = schema.add_subparsers(required=True, metavar="WHAT", dest="what")
    show = whats.add_parser("show", help="print the class of the events as JSON Schema, to be kept")
    check = whats.add_parser("check", help="compare it with a schema that was kept, or read events that were")
    asyncapi = whats.add_parser("asyncapi", help="describe the topics that it reads and writes, as AsyncAPI 3.0")
    for parser in (show, check, asyncapi):
        parser.add_argument("path", metavar="PIPELINE", help=PIPELINE)
    add_options(asyncapi)
    check.add_argument("old", metavar="OLD", help="what schema show printed before, or events as lines of JSON")
    check.add_argument("--json", action="store_true", help="print JSON")


def _schema(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    if options.what == "asyncapi":
        config = configured(options, environ)
        from headrace.stream import asyncapi  # noqa: PLC0415 - late, as below

        return asyncapi.main(options.path, config)
    from headrace.stream import schema  # noqa: PLC0415 - late, as below

    if options.what == "show":
        return schema.show(options.path)
    return schema.check(options.path, options.old, as_json=options.json)


def _add_topics(commands: Any, add_options: Callable[[argparse.ArgumentParser], None], configured: AsConfig) -> None:
    topics = commands.add_parser("topics", help="say which topics a pipeline needs, and make them")
    topics.set_defaults(command=lambda options: _topics(options, configured, os.environ))
    whats = topics.add_subparsers(required=True, metavar="WHAT", dest="what")
    plan = whats.add_parser("plan", help="print what would be done; ends with 1 where there is anything")
    apply = whats.add_parser("apply", help="do it; what would take keys from their past is refused")
    for parser in (plan, apply):
        parser.add_argument("path", metavar="PIPELINE", help=PIPELINE)
        parser.add_argument("--partitions", type=int, metavar="N", help="how many the events should have")
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_options(parser)


def _topics(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    config = configured(options, environ)
    if options.partitions is not None and options.partitions < 1:
        raise BadConfig([f"--partitions {options.partitions}: a topic has one at the least"])
    from headrace.stream import load, topic_plan  # noqa: PLC0415 - late, as below

    chosen = {"apply": options.what == "apply", "partitions": options.partitions, "as_json": options.json}
    return topic_plan.main(load.load_pipeline(options.path), config, **chosen)


def _dlq(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    config = configured(options, environ)
    if options.what == "retry" and options.reason and options.reason not in (reasons := [*Reason, "unknown"]):
        raise BadConfig([f"--reason {options.reason}: allowed are {', '.join(reasons)}"])
    from headrace.stream import dead_letters, failpoint, load  # noqa: PLC0415 - late, as above

    failpoint.arm(environ)
    pipeline = load.load_pipeline(options.path)
    if options.what == "ls":
        return dead_letters.ls(pipeline, config, as_json=options.json)
    if options.what == "show":
        return dead_letters.show(pipeline, config, options.place, as_json=options.json)
    chosen = {"reason": options.reason, "limit": options.limit, "dry": options.dry_run}
    return dead_letters.retry(pipeline, config, **chosen, as_json=options.json)


def _complete(parser: argparse.ArgumentParser, shell: str) -> int:
    from headrace.stream import completion  # noqa: PLC0415 - late, as below

    return completion.main(parser, shell)


def _init(options: argparse.Namespace) -> int:
    from headrace.stream import init  # noqa: PLC0415 - late, as below

    return init.main(options.name, template=options.template)


def _doctor(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    from headrace.stream import doctor  # noqa: PLC0415 - late, because the clients take a moment to import

    return doctor.main(options.path, lambda: configured(options, environ), as_json=options.json, every=options.all)
