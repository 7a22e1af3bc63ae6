"""Finds the pipeline that a person named, and what is added to its worker: in a Python file, a folder with
``pipeline.py``, or a module.
"""

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from headrace.models.pipeline import Pipeline
from headrace.schemas.errors import BadPipeline, HeadraceError

Extension = Callable[[Any], object]
Extending = TypeVar("Extending", bound=Extension)


class Application(NamedTuple):
    """What a file says: the pipeline, and what else its worker does."""

    pipeline: Pipeline
    extensions: tuple[Extension, ...]


def extends(function: Extending) -> Extending:
    """Have ``headrace run`` call a function with the worker, a Faust app, before it starts.

    It adds agents, timers and pages of your own:

    >>> @extends
    ... def say_hello(app):
    ...     @app.page("/hello/")
    ...     async def hello(view, request):
    ...         return view.text("hello")
    """
    vars(function)["extends_worker"] = True
    return function


def load_pipeline(name: str) -> Pipeline:
    """Return the one pipeline in what ``name`` names.

    >>> load_pipeline("no/such/file.py")
    Traceback (most recent call last):
    headrace.schemas.errors.BadPipeline: pipeline cannot run (1 problem):
      no/such/file.py: no such file, folder with a pipeline.py, or module
    """
    return load(name).pipeline


def load(name: str) -> Application:
    """Return the one pipeline in what ``name`` names, and what extends its worker, from top to bottom."""
    module = _module(name)
    found = list({id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}.values())
    if len(found) != 1:
        what = "no Pipeline" if not found else f"{len(found)} pipelines"
        raise BadPipeline([f"{module.__file__}: {what} at its top level; write pipeline = Pipeline(...), once"])
    extensions = {id(value): value for value in vars(module).values() if getattr(value, "extends_worker", None) is True}
    return Application(found[0], tuple(extensions.values()))


def extend(worker: Any, extensions: tuple[Extension, ...]) -> None:
    """Call what extends a worker; an error in it names the file and the line."""
    for extension in extensions:
        try:
            extension(worker)
        except HeadraceError:
            raise
        except Exception as error:
            what = f"{called(extension)} could not extend the worker"
            raise BadPipeline([f"{_where(error)}: {what}: {_told(error)}"]) from error


def called(extension: Extension) -> str:
    """Return what a person knows an extension by."""
    return getattr(extension, "__name__", repr(extension))


def _module(name: str) -> ModuleType:
    path = Path(name)
    if path.is_dir():
        path = path / "pipeline.py"
    try:
        if path.is_file():
            return _from_file(path.resolve())
        if not name.endswith(".py") and "/" not in name and not name.startswith(".") and _is_module(name):
            return importlib.import_module(name)
    except HeadraceError:
        raise
    except SyntaxError as error:
        if not error.filename or error.filename.startswith("<"):
            raise BadPipeline([f"{path}: {type(error).__name__}: {error.msg}"]) from error
        raise BadPipeline([f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"]) from error
    except (Exception, SystemExit) as error:
        raise BadPipeline([f"{_where(error)}: {_told(error)}"]) from error
    raise BadPipeline([f"{name}: no such file, folder with a pipeline.py, or module"])


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if _is_users(frame.filename)] or list(frames)
    return f"{mine[-1].filename}:{mine[-1].lineno}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _is_users(file: str) -> bool:
    """Say whether a file is somebody's own, and not a library's or the interpreter's."""
    if file.startswith("<"):
        return False
    path, here = Path(file).resolve(), Path(__file__).resolve()
    libraries = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    ours = [here.parents[1] / name for name in ("stream", "models", "schemas")]
    return not any(path.is_relative_to(folder) for folder in (*libraries, *ours))


def _from_file(path: Path) -> ModuleType:
    # Under a name of its own, so that a pipeline.py never hides another module; its folder is importable.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = f"headrace_pipeline_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
