"""The commands beside ``headrace run``: what a person asks before the start, meanwhile and afterwards."""

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

from headrace.schemas.config import Config

PIPELINE = "a Python file, a folder with a pipeline.py, or a module"
AsConfig = Callable[..., Config]  # from what was given on the command line, and the environment


def add(commands: Any, add_options: Callable[[argparse.ArgumentParser], None], configured: AsConfig) -> None:
    """Add the commands to the parser. What they do is loaded when they are run, so that help comes at once."""
    doctor = commands.add_parser("doctor", help="look for everything that could be wrong before the start")
    doctor.add_argument("path", metavar="PIPELINE", help=PIPELINE)
    doctor.add_argument("--all", action="store_true", help="print the checks that are well, too")
    doctor.add_argument("--json", action="store_true", help="print an object of JSON for each check")
    add_options(doctor)
    doctor.set_defaults(command=lambda options: _doctor(options, configured, os.environ))


def _doctor(options: argparse.Namespace, configured: AsConfig, environ: Mapping[str, str]) -> int:
    from headrace.stream import doctor  # noqa: PLC0415 - late, because the clients take a moment to import

    return doctor.main(options.path, lambda: configured(options, environ), as_json=options.json, every=options.all)
