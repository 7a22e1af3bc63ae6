"""Programs of other people that tests need."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skip by name; on CI, where all of it is installed, fail."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what)
    pytest.skip(what)


def tool(name: str, why: str) -> str:
    """Return the path of a program."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    return found or lacking(f"{name} is not installed, and {why}")
