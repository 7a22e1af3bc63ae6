"""Finding the pipeline that a person named, and saying what is wrong with what was found."""

from pathlib import Path

import pytest

from headrace.schemas.errors import BadPipeline
from headrace.stream.load import extend, load, load_pipeline

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from headrace import Event, Linear, Pipeline, field

class Visit(Event, topic="visits", key="user"):
    id: str
    at: float
    user: str

pipeline = Pipeline(name="{name}", events=Visit, features={{"at": field("at")}}, static=Linear({{"at": 0.0}}))
"""


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading makes the file's folder importable, for good; here for one test.
    monkeypatch.syspath_prepend(ROOT / "tests")


def _problem(name: object) -> str:
    with pytest.raises(BadPipeline) as told:
        load_pipeline(str(name))
    (problem,) = told.value.problems
    return problem


@pytest.mark.parametrize(
    "name", [str(ROOT / "examples/fraud/pipeline.py"), str(ROOT / "examples/fraud"), "headrace.examples.fraud.pipeline"]
)
def test_a_file_a_folder_and_a_module_name_a_pipeline(name: str) -> None:
    assert load_pipeline(name).name == "fraud"


def test_two_pipelines_of_the_same_file_name_are_two(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pipeline.py").write_text(GOOD.format(name=name))
    assert [load_pipeline(str(tmp_path / name)).name for name in ("one", "two")] == ["one", "two"]


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "visits_neighbour.py").write_text(GOOD.format(name="next-door"))
    (tmp_path / "pipeline.py").write_text("from visits_neighbour import pipeline\n")
    assert load_pipeline(str(tmp_path)).name == "next-door"


def test_a_file_without_a_pipeline_is_told_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "none.py"
    file.write_text("x = 1\n")
    assert _problem(file) == f"{file}: no Pipeline at its top level; write pipeline = Pipeline(...), once"


def test_a_file_with_two_pipelines_is_told_the_count(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(GOOD.format(name="one") + GOOD.format(name="two").replace("\npipeline", "\nother"))
    assert _problem(file) == f"{file}: 2 pipelines at its top level; write pipeline = Pipeline(...), once"


def test_an_exception_in_a_file_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "raises.py"
    file.write_text("x = 1\n\ny = x / 0\n")
    assert _problem(file) == f"{file}:3: ZeroDivisionError: division by zero"


def test_an_import_that_is_missing_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "imports.py"
    file.write_text("\nimport no_such_module_anywhere\n")
    assert _problem(file) == f"{file}:2: ModuleNotFoundError: No module named 'no_such_module_anywhere'"


def test_an_exception_in_a_library_is_told_with_the_line_that_called_it(tmp_path: Path) -> None:
    file = tmp_path / "calls.py"
    file.write_text("import numpy as np\n\ndef shape(it):\n    return np.reshape(it, 7)\n\nx = shape([1, 2])\n")
    assert _problem(file) == f"{file}:4: ValueError: cannot reshape array of size 2 into shape (7,)"


def test_an_exception_in_a_neighbour_is_told_with_the_neighbours_line(tmp_path: Path) -> None:
    neighbour = tmp_path / "raising_neighbour.py"
    neighbour.write_text("x = 1\ny = x / 0\n")
    (tmp_path / "pipeline.py").write_text("import raising_neighbour\n")
    assert _problem(tmp_path) == f"{neighbour}:2: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("text", "line", "want"),
    [
        (b"x = 1\ny = (\n", 2, "SyntaxError: '(' was never closed"),
        (b"if True:\nx = 1\n", 2, "IndentationError: expected an indented block after 'if' statement on line 1"),
        (b"x = 1\n\n\nx = = 2\n", 4, "SyntaxError: invalid syntax"),
    ],
    ids=["never closed", "indentation", "invalid"],
)
def test_a_file_that_is_no_python_is_told_with_its_own_line(tmp_path: Path, text: bytes, line: int, want: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_bytes(text)
    assert _problem(file) == f"{file}:{line}: {want}"


def test_a_neighbour_that_is_no_python_is_told_with_the_neighbours_line(tmp_path: Path) -> None:
    neighbour = tmp_path / "wrong_neighbour.py"
    neighbour.write_text("x = 1\ny = = 2\n")
    (tmp_path / "pipeline.py").write_text("import wrong_neighbour\n")
    assert _problem(tmp_path) == f"{neighbour}:2: SyntaxError: invalid syntax"


@pytest.mark.parametrize("code", ["3", "0", "", "'enough'"])
def test_a_file_that_ends_the_program_is_told_so(tmp_path: Path, code: str) -> None:
    file = tmp_path / "exits.py"
    file.write_text(f"import sys\nsys.exit({code})\n" + GOOD.format(name="x"))
    said = code.strip("'") or "None"
    assert _problem(file).rstrip() == f"{file}:2: SystemExit: {said}".replace("None", "").rstrip()


def test_a_pipeline_under_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(GOOD.format(name="one") + "\napp = pipeline\n")
    assert load_pipeline(str(tmp_path)).name == "one"


def test_a_pipeline_that_does_not_fit_together_says_so_itself(tmp_path: Path) -> None:
    file = tmp_path / "misfit.py"
    file.write_text(GOOD.format(name="x").replace('field("at")', 'field("att")'))
    assert "reads 'att', which Visit does not have; did you mean 'at'?" in _problem(file)


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module_anywhere",
        "no_such_package.pipeline",
        "headrace.no_such_part.pipeline",
        "os.path.pipeline",
        "no/such/file.py",
        "no/such/folder",
        "pipeline.pyx.py",
        ".",
        ".pipeline",
    ],
)
def test_what_is_not_there_is_told_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _problem(name) == f"{name}: no such file, folder with a pipeline.py, or module"


def test_a_folder_without_a_pipeline_is_told_so(tmp_path: Path) -> None:
    assert _problem(tmp_path) == f"{tmp_path}: no such file, folder with a pipeline.py, or module"


EXTENDED = (
    GOOD
    + """
from headrace import extends

@extends
def first(worker):
    worker.append("first")

def no_extension(worker):
    worker.append("never")

@extends
def second(worker):
    worker.append(1 / worker[1])
"""
)


def test_what_extends_a_worker_is_called_from_top_to_bottom(tmp_path: Path) -> None:
    file = tmp_path / "extended.py"
    file.write_text(EXTENDED.format(name="one"))
    pipeline, extensions = load(str(file))
    assert pipeline.name == "one"
    worker = [0, 2]
    extend(worker, extensions)
    assert worker == [0, 2, "first", 0.5]


def test_an_extension_that_raises_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "extended.py"
    file.write_text(EXTENDED.format(name="one"))
    line = 1 + file.read_text().splitlines().index("    worker.append(1 / worker[1])")
    with pytest.raises(BadPipeline) as told:
        extend([0, 0], load(str(file)).extensions)
    said = f"{file}:{line}: second could not extend the worker: ZeroDivisionError: division by zero"
    assert told.value.problems == (said,)
