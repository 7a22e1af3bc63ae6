"""The repository's own rules: what everybody agreed on and nobody should have to remember.

Each test says what to do about what it found. There is no limit on size: a long page is a smell to
look at, not an error.
"""

import ast
import fnmatch
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import headrace
from headrace.schemas import errors
from headrace.schemas.dead_letter import Reason

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "stream")
SHIPPED = (*PACKAGES, "examples")
DECISION_SECTIONS = ("Context", "Decision", "The reason against it", "What would change our mind")
TEXT = {"", ".css", ".html", ".js", ".json", ".md", ".py", ".sh", ".svg", ".toml", ".txt", ".yaml", ".yml"}
# Two codes may share an exit code where a shell has the same thing to do about both.
SHARED_EXIT_CODES = {2: {"BAD_CONFIG", "BAD_PIPELINE"}}  # mend what you wrote, then start again
# Errors that concern one record and never end a command have the exit code 0.
NEVER_ENDS = {"REJECTED"}


@cache
def _files() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        listed = printed.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or no git at all
        listed = [str(path) for path in _walk()]
    return tuple(sorted(path for path in map(Path, listed) if path.name and (ROOT / path).is_file()))


def _walk() -> Iterator[Path]:
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [
            name
            for name in folders
            if name != ".git" and not any(fnmatch.fnmatch(name, i) or str(here / name) == i for i in ignored)
        ]
        yield from (here / name for name in names if not any(fnmatch.fnmatch(name, i) for i in ignored))


def _texts() -> Iterator[tuple[Path, str]]:
    for path in _files():
        if path.suffix in TEXT and not (ROOT / path).is_symlink():
            yield path, (ROOT / path).read_text(encoding="utf-8")


def _pages() -> list[tuple[Path, str]]:
    return [(path, text) for path, text in _texts() if path.suffix == ".md"]


def _found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _error_classes() -> list[type[errors.HeadraceError]]:
    every = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in every if issubclass(value, errors.HeadraceError)]


def test_the_repository_is_found() -> None:
    # A check that looks at nothing also passes.
    names = {str(path) for path in _files()}
    assert {"pyproject.toml", "Makefile", "schemas/errors.py", "tests/core/test_tidy.py"} <= names


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = [str(path) for path in _files() if path.stem in {"util", "utils", "misc"}]
    assert not drawers, f"{drawers}: name the file after the one noun it is about"


def test_open_ends_name_the_decision_that_allows_them() -> None:
    decisions = {path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md")}
    marks = re.compile(r"(?:#|//|<!--)\s*(?:TO[D]O|FIX[M]E|XX[X])\b(?:\((\d{4})\))?")
    loose = [line for line in _found(marks) if (mark := marks.search(line)) and mark[1] not in decisions]
    assert not loose, f"{loose}: do it, or name the page in docs/decisions, as in TO{''}DO(0001)"


def test_packages_are_the_folders() -> None:
    declared = _pyproject()["tool"]["setuptools"]
    folders = {"headrace": "src/headrace"}
    for package in SHIPPED:
        for path in _files():
            if path.parts[0] == package and path.suffix == ".py":
                folders["headrace." + ".".join(path.parent.parts)] = str(path.parent)
    assert declared["package-dir"] == {
        name: folder for name, folder in folders.items() if name in declared["package-dir"]
    }
    assert sorted(declared["packages"]) == sorted(folders), "a folder that is not listed is not shipped"
    for folder in folders.values():
        assert (ROOT / folder / "__init__.py").is_file(), f"{folder} has no __init__.py"


def test_data_files_in_packages_are_shipped() -> None:
    shipped = _pyproject()["tool"]["setuptools"].get("package-data", {})
    for path in _files():
        if path.parts[0] not in SHIPPED or path.suffix == ".py":
            continue
        owner = path.parent
        while not (ROOT / owner / "__init__.py").is_file():
            owner = owner.parent
        patterns = shipped.get("headrace." + ".".join(owner.parts), [])
        inside = str(path.relative_to(owner))
        assert any(fnmatch.fnmatch(inside, pattern) for pattern in patterns), (
            f"{path} is in no wheel: add it to package-data in pyproject.toml"
        )


def test_links_for_editors_point_at_the_packages() -> None:
    for package in PACKAGES:
        link = ROOT / "src/headrace" / package
        assert link.is_symlink(), f"{link} must be a symbolic link, or type checkers and doctests see a copy"
        assert os.readlink(link) == f"../../{package}"  # noqa: PTH115 - the text of the link is the point


def test_modules_say_what_they_are_for() -> None:
    modules = [path for path in _files() if path.parts[0] in SHIPPED and path.suffix == ".py"]
    assert len(modules) >= len(SHIPPED)
    for path in modules:
        assert ast.get_docstring(ast.parse((ROOT / path).read_text())), f"{path} has no docstring"


def test_rules_that_are_lifted_are_lifted_for_files_that_exist() -> None:
    for pattern in _pyproject()["tool"]["ruff"]["lint"]["per-file-ignores"]:
        matching = [path for path in _files() if fnmatch.fnmatch(str(path), pattern)]
        assert matching, f"pyproject.toml lifts rules for {pattern}, and no file is like that"


def test_version_is_the_same_everywhere() -> None:
    assert _pyproject()["project"]["version"] == headrace.__version__


def test_nothing_names_a_place_on_one_machine() -> None:
    places = re.compile(r"(?<![\w.>)\]}])/(?:root|home|work|Users)(?![\w-])")
    assert not (found := _found(places)), f"{found}: works on one machine only"


def test_nothing_names_a_package_registry() -> None:
    # Whoever installs decides where from: a mirror, a proxy, a folder of wheels.
    hosts = re.compile(r"pypi[.]org|pythonhosted[.]org|repo1?[.]maven|registry[.]npmjs|crates[.]io")
    assert not (found := _found(hosts)), f"{found}: leave the place to the package manager's own settings"


def test_scripts_are_executable() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_decisions_have_their_sections() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert re.match(rf"# {page.name[:4]}\. \S", text), f"{page.name} must begin with its number and a title"
        assert tuple(re.findall(r"^## (.+)$", text, flags=re.MULTILINE)) == DECISION_SECTIONS, page.name
        for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
            assert section.strip(), f"{page.name} has an empty section"


def test_links_between_pages_resolve() -> None:
    pages = _pages()
    assert pages
    broken = []
    for path, text in pages:
        for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", _without_code(text)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            aimed = (ROOT / path.parent / name) if name else ROOT / path
            if not aimed.exists() or (anchor and anchor not in _anchors(aimed)):
                broken.append(f"{path}: {target}")
    assert not broken


def test_places_in_the_code_that_pages_name_exist() -> None:
    # Written as `stream/commit.py:Committer.commit`.
    missing = []
    for path, text in _pages():
        for file, name in re.findall(r"`([\w./-]+\.py):([A-Za-z_][\w.]*)(?:\(\))?`", text):
            source = ROOT / file
            if not source.is_file() or name not in _defined(source):
                missing.append(f"{path}: {file}:{name}")
    assert not missing


def test_error_codes_are_unique() -> None:
    codes = [kind.code for kind in _error_classes()]
    assert len(codes) > 5
    assert len(codes) == len(set(codes))
    users: dict[int, set[str]] = {}
    for kind in _error_classes():
        users.setdefault(kind.exit_code, set()).add(kind.code)
    assert users.pop(0, set()) == NEVER_ENDS, "zero says that all went well"
    assert {status: names for status, names in users.items() if len(names) > 1} == SHARED_EXIT_CODES


def test_every_error_is_on_the_errors_page_in_its_own_words() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (.+?) \| (.+?) \|$", page, flags=re.MULTILINE)
    described = {code: (int(status), meaning) for code, status, meaning, _ in rows}
    assert len(described) == len(rows), "a code has two rows"
    want = {kind.code: (kind.exit_code, _first_paragraph(kind)) for kind in _error_classes()}
    assert described == want, "docs/errors.md says something else than the docstrings in schemas/errors.py"


def test_every_reason_of_a_dead_letter_is_on_the_errors_page() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| .+? \| .+? \|$", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted((str(reason), reason.stage) for reason in Reason)


def _first_paragraph(kind: type) -> str:
    assert kind.__doc__, f"{kind.__name__} has no docstring"
    return " ".join(kind.__doc__.split("\n\n")[0].split())


def _without_fences(text: str) -> str:
    return re.sub(r"^(```+)[^\n]*\n.*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", _without_fences(text))


def _anchors(page: Path) -> set[str]:
    if page.suffix != ".md":
        return set()
    headings = re.findall(r"^#+ (.+?)\s*$", _without_fences(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _defined(source: Path) -> set[str]:
    names: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.update({node.name, prefix + node.name})
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)

    visit(ast.parse(source.read_text()).body, "")
    return names
