"""The site: built without network, from source that is read and never run; pages that load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from tests.kedro_command import PROJECT

from nqcast.parameters import SET_BY_THE_RUN, Parameters

# Refuses every connection and every look-up of a name, and the import of what a static site has no use for.
BUILD = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"the build asks the network: {event} {arguments}")
    if event == "import" and arguments[0].split(".")[0] in ("torch", "mlflow"):
        raise RuntimeError(f"the build imports {arguments[0]}")

sys.addaudithook(refuse)
from mkdocs.__main__ import cli
cli(["build", "-q", "--strict", "--site-dir", sys.argv[1]])
"""

_LOADED = {
    **dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src"),
    **{"object": "data", "use": "href", "image": "href"},
}
_ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)


class Resources(HTMLParser):
    """What a browser loads for a page by itself: scripts, styles, pictures, fonts; not what a reader may click on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get("href", ""))
        if tag in _LOADED:
            self.found += [given.get(_LOADED[tag], ""), *re.findall(r"[^\s,]+", given.get("srcset", ""))]
        self.found += re.findall(r"url\(['\"]?([^'\")]+)", given.get("style", ""))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._style:
            self.found += loaded_by_style(data)


def loaded_by_style(text: str) -> list[str]:
    """Addresses of a style sheet's pictures, fonts and imports."""
    return re.findall(r"(?:url\(|@import\s*)['\"]?([^'\")\s;]+)", text)


def resources(html: str) -> list[str]:
    parser = Resources()
    parser.feed(html)
    return [address for address in parser.found if address]


@pytest.fixture(scope="session")
def site(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return made_once("site", build)


def build(folder: Path) -> None:
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=PROJECT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, (done.stdout + done.stderr)[-4000:]


def test_the_site_is_built_without_network_torch_or_warning(site: Path) -> None:
    nav = yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"]
    wanted = {name.replace(".md", ".html") for name in re.findall(r"[\w/]+\.md", str(nav))}
    assert len(wanted) > 20
    assert {page.relative_to(site).as_posix() for page in site.rglob("*.html")} >= wanted


def test_every_page_of_the_folder_is_in_the_navigation() -> None:
    nav = str(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"])
    docs = PROJECT / "docs"
    assert [
        p.name for p in docs.rglob("*.md") if p.relative_to(docs).as_posix() not in re.findall(r"[\w/]+\.md", nav)
    ] == []


def test_a_page_loads_nothing_from_elsewhere_and_nothing_that_is_not_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in resources(page.read_text()):
            assert not _ELSEWHERE.match(address), f"{page.name} loads {address}"
            if not address.startswith("data:") and page.name != "404.html":  # 404.html counts from the server's root
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), f"{page.name}: no {address}"
    for sheet in site.rglob("*.css"):
        outside = [address for address in loaded_by_style(sheet.read_text()) if _ELSEWHERE.match(address)]
        assert outside == [], sheet.name


def test_the_scan_sees_what_would_be_loaded() -> None:
    page = (
        '<link rel="stylesheet" href="//fonts.example/a.css"><link rel="canonical" href="https://x.example/">'
        '<script src="https://cdn.example/b.js"></script><a href="https://fine.example">click</a>'
        '<img src="c.png" srcset="http://d.example/e.png 2x"><style>@import "https://g.example/h.css";</style>'
    )
    assert [address for address in resources(page) if _ELSEWHERE.match(address)] == [
        "//fonts.example/a.css",
        "https://cdn.example/b.js",
        "http://d.example/e.png",
        "https://g.example/h.css",
    ]


def test_the_reference_shows_docstrings_and_every_parameter(site: Path) -> None:
    assert "One row per horizon and level" in (site / "reference" / "forecast.html").read_text()
    assert "Brownian" in (site / "simulated_market.html").read_text()
    shown = (site / "reference" / "parameters.html").read_text()
    for group, field in Parameters.model_fields.items():
        assert f"<code>{group}</code>" in shown or f'id="{group}"' in shown, group
        for name in getattr(field.annotation, "model_fields", ()):
            set_by_the_run = f"{group}.{name}" in SET_BY_THE_RUN
            assert set_by_the_run or f"<code>{name}</code>" in shown, f"{group}.{name}"
