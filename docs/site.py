"""The documentation as a site: ``python docs/site.py`` gathers the pages, and builds them in build/site.

The pages lie in the site as they lie in the repository, so a link that works in one works in the other. Whatever a
page links to comes along as it is: tests, sources, rules. Nothing of the site is fetched from another host.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/*.md")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<to>[^)\s#]*)(?:#(?P<at>[^)\s]*))?\)")
OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:")
FENCED = re.compile(r"^(```+).*?^\1[ ]*$", flags=re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return every page, relative to the root."""
    return sorted({path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern)})


def links(page: Path) -> list[tuple[str, str]]:
    """Return where the links of a page go, each with its anchor; what is fenced is an example, and no link."""
    text = FENCED.sub("", (ROOT / page).read_text())
    return [(found["to"], found["at"] or "") for found in LINK.finditer(text)]


def linked(page: Path) -> list[Path]:
    """Return the files of the repository that a page links to, relative to the root."""
    inside = [to for to, _ in links(page) if to and not OUTSIDE.match(to)]
    there = [(ROOT / page.parent / to).resolve() for to in inside]
    return sorted({path.relative_to(ROOT) for path in there if path.is_file() and path.is_relative_to(ROOT)})


def build(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Build the site in ``folder/html``; a warning is a failure."""
    shutil.rmtree(folder, ignore_errors=True)
    found = pages()
    beside = {one for page in found for one in linked(page)}
    for path in {*found, *beside}:
        _copy(path, folder / "pages" / path)
    _copy(Path("zensical.toml"), folder / "zensical.toml")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    for path in beside.difference(found):  # the builder leaves out what is hidden, such as .ci
        _copy(path, folder / "html" / path)
    return done


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / path, target)


if __name__ == "__main__":
    where = ROOT / "build/site"
    done = build(where)
    sys.stdout.write(done.stdout + done.stderr)
    if done.returncode == 0:
        sys.stdout.write(f"open {where / 'html/index.html'}\n")
    sys.exit(done.returncode)
