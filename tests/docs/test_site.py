"""The site is built without a warning; every page has its place in it, no link is dead, and nothing is fetched.

Links to other hosts are looked at, not followed: no test goes over the network.
"""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"^#{1,6} (.+?)[ ]*$", flags=re.MULTILINE)
# Elements with which a page fetches something by itself; what a reader follows is another matter.
FETCHES = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


def _site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("headrace_docs_site", ROOT / "docs/site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = _site()


def _navigation(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for place in entry.values():
            if isinstance(place, str):
                yield place
            else:
                yield from _navigation(place)


def slug(heading: str) -> str:
    """Return the anchor of a heading, as forges and the site make it.

    >>> slug("`headrace run`, and what it *does*: [all](x.md) of it")
    'headrace-run-and-what-it-does-all-of-it'
    """
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@cache
def _anchors(page: Path) -> frozenset[str]:
    found: dict[str, int] = {}
    anchors = set()
    for heading in HEADING.findall(site.FENCED.sub("", page.read_text())):
        name = slug(heading)
        count = found[name] = found.get(name, -1) + 1
        anchors.add(f"{name}-{count}" if count else name)
    return frozenset(anchors)


def test_pages_are_found() -> None:
    # A check that looks at nothing also passes.
    found = {str(page) for page in site.pages()}
    assert {"README.md", "docs/cli.md", "docs/decisions/0001-names-and-packaging.md"} <= found
    assert ("docs/cli.md", "") in site.links(Path("README.md"))


def test_every_page_is_in_the_navigation_and_every_place_of_it_is_a_page() -> None:
    entries = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    places = list(_navigation(entries))
    assert sorted(places) == sorted(set(places)), "a page has two places"
    assert set(places) == {str(page) for page in site.pages()}, "give it a line in zensical.toml"


def test_every_decision_is_listed() -> None:
    decisions = [page for page in site.pages() if page.parent == Path("docs/decisions")]
    assert decisions
    assert set(decisions) == set(site.linked(Path("docs/decisions.md"))), "give it a line in docs/decisions.md"


@pytest.mark.parametrize("page", site.pages(), ids=str)
def test_no_link_of_a_page_is_dead(page: Path) -> None:
    dead = []
    for to, at in site.links(page):
        if site.OUTSIDE.match(to):
            parts = urlsplit(to)
            if parts.scheme != "https" or "." not in (parts.hostname or ""):
                dead.append(f"{to}: write https:// and a host")
            continue
        target = (ROOT / page.parent / to).resolve() if to else ROOT / page
        if not target.is_file() or not target.is_relative_to(ROOT):
            dead.append(f"{to}: no such file")
        elif at and target.suffix == ".md" and at not in _anchors(target):
            dead.append(f"{to}#{at}: no such heading; there are {', '.join(sorted(_anchors(target)))}")
    assert not dead, f"{page}: {dead}"


class Page(NamedTuple):
    """A built page: what can be linked to in it, what it links to, and what it fetches."""

    ids: set[str]
    links: list[str]
    fetched: list[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page(set(), [], [])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if name := given.get("id"):
            self.page.ids.add(name)
        if tag == "a" and (to := given.get("href")):
            self.page.links.append(to)
        if (fetched := given.get(FETCHES.get(tag, ""))) and given.get("rel") not in {"prev", "next", "canonical"}:
            self.page.fetched.append(fetched)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, Page]]:
    folder = tmp_path_factory.mktemp("site")
    done = site.build(folder)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "No issues found" in told
    assert not re.search(r"warning|error", told, flags=re.IGNORECASE), told
    read = {}
    for path in (folder / "html").rglob("*.html"):
        reader = _Reader()
        reader.feed(path.read_text())
        read[path.resolve()] = reader.page
    return (folder / "html").resolve(), read


def test_every_page_is_built(built: tuple[Path, dict[Path, Page]]) -> None:
    html, read = built
    for page in site.pages():
        path = html / page.with_suffix(".html")
        assert (path.with_name("index.html") if page.name == "README.md" else path) in read, page


def test_no_link_of_the_site_is_dead(built: tuple[Path, dict[Path, Page]]) -> None:
    html, read = built
    dead = []
    for path, page in read.items():
        if path.name == "404.html":  # whose links are made for whatever place it is shown at
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            at = unquote(parts.fragment)
            if not target.is_file() or (at and target in read and at not in {*read[target].ids, "__skip"}):
                dead.append(f"{path.relative_to(html)}: {link}")
    assert not dead


def test_no_page_of_the_site_fetches_from_another_host(built: tuple[Path, dict[Path, Page]]) -> None:
    html, read = built
    assert any(page.fetched for page in read.values())
    away = {
        (str(path.relative_to(html)), to) for path, page in read.items() for to in page.fetched if urlsplit(to).netloc
    }
    assert not away
    for path in html.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text()), path
    # The theme draws diagrams, runs cells and shows stars with what it fetches, where a page has such; none may.
    for path in read:
        shown = path.read_text()
        assert not re.search(r"class=\"(?:mermaid|glightbox|pyodide)|data-md-component=\"source\"", shown), path
