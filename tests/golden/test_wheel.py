"""The wheel is what users get, so its list of files is pinned and it is installed and imported.

After a file was added or taken away on purpose: ``python tests/golden/test_wheel.py`` writes the list anew.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = Path(__file__).with_name("wheel.txt")
PACKAGES = ("schemas", "models", "stream")
COMPILED = "headrace/models/_kernel.abi3.so"  # where it can be: it is optional
SHIPPED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", *PACKAGES, "examples")


def _build(folder: Path, **env: str) -> Path:
    """Build the wheel from a copy: a `build/` left over in the checkout would add files long deleted."""
    source = folder / "source"
    source.mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name.replace(wheel.name.split("-")[1], "VERSION") for name in archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a new environment's Python that has our wheel, and the dependencies of this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    # A path that a .pth file adds comes after the environment's own, and the .pth files in there are not
    # read: our dependencies are found, an editable headrace is not.
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    yield python
    shutil.rmtree(home)


def _run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_wheel_has_exactly_these_files(wheel: Path) -> None:
    assert [name for name in _names(wheel) if name != COMPILED] == PINNED.read_text().split(), (
        "if this is meant: python tests/golden/test_wheel.py"
    )


def test_wheel_has_the_kernel_where_it_can_be_compiled(wheel: Path, python: Path, tmp_path: Path) -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h")
    possible = shutil.which(compiler) is not None and headers.is_file()
    assert (COMPILED in _names(wheel)) == possible, f"{compiler}, {headers}"
    done = _run(python, "from headrace.models.kernels import compiled; print(compiled())", tmp_path)
    assert done.stdout.strip() == str(possible), done.stderr


def test_wheel_is_built_without_a_compiler_too(tmp_path: Path) -> None:
    assert _names(_build(tmp_path, CC="/bin/false")) == PINNED.read_text().split()


def test_wheel_has_every_module_of_the_packages_and_the_examples(wheel: Path) -> None:
    found = {path.relative_to(ROOT) for name in (*PACKAGES, "examples") for path in (ROOT / name).rglob("*.py")}
    assert {f"headrace/{path}" for path in found} <= set(_names(wheel))


def test_installed_wheel_imports_every_module(wheel: Path, python: Path, tmp_path: Path) -> None:
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in _names(wheel)
        if name.endswith(".py")
    ]
    code = f"import importlib as i, headrace as h; [i.import_module(m) for m in {modules}]; print(h.__file__)"
    done = _run(python, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1]), "that was not the wheel's headrace"


def test_installed_wheel_has_the_command_and_the_transport(python: Path, tmp_path: Path) -> None:
    assert (python.parent / "headrace").is_file()
    code = "from importlib.metadata import entry_points; print(entry_points(group='faust.transports'))"
    assert "headrace.stream." in _run(python, code, tmp_path).stdout


def test_first_minute_with_the_installed_wheel_is_what_init_says_is_next(python: Path, tmp_path: Path) -> None:
    """In an empty folder, without options of ours and without a network: nothing is asked for beyond this host."""
    nowhere = "http://127.0.0.1:9"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PYTHON"))}
    environ = {
        **inherited,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "PIP_NO_INDEX": "1",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere),
    }

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    said = shell("headrace init fraud").stdout
    steps = re.findall(r"^    (.*?) *# ", said, flags=re.MULTILINE)
    assert steps == [
        "cd fraud && make test",
        "headrace demo fraud",
        "headrace score . events.jsonl",
        "headrace dev . --embedded",
    ]
    # Two of them run until Ctrl-C: one is told how long, and the other is looked at in tests/core/test_dev.py.
    done = shell("\n".join([steps[0], f"{steps[1]} --seconds 3", steps[2], f"{steps[3]} --help"]))
    assert "3 passed" in done.stdout
    assert "every event has exactly one prediction" in done.stdout
    assert "200 rows scored, 0 rejected" in done.stderr
    assert "usage: headrace dev" in done.stdout
    told = shell("cd fraud && headrace doctor . --broker 127.0.0.1:9 || test $? = 2").stdout
    assert "nobody listens on 127.0.0.1:9" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fraud", "home"], "it writes where it was asked to"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_have_no_bare_name(python: Path, tmp_path: Path, package: str) -> None:
    elsewhere = _run(python, f"import {package}", tmp_path)
    assert f"ModuleNotFoundError: No module named '{package}'" in elsewhere.stderr
    # In the checkout the folder is there to be found, and half of all services have a package of that name.
    at_home = _run(python, f"import {package}", ROOT)
    assert f"ImportError: import this package as headrace.{package}, not as {package}" in at_home.stderr


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        names = _names(_build(Path(scratch)))
        PINNED.write_text("".join(f"{name}\n" for name in names if name != COMPILED))
