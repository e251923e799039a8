"""Every page of the site as a browser shows it, from the disk: no picture missing, no link dead, no list unrendered."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tests.docs.test_site import site  # noqa: F401  the fixture that builds it

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A frame per page; the outer page has loaded when all of them have, pictures included. What it then finds is its text.
LOOK = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre><script>
const pages = %s, found = [];
for (const page of pages) document.write(`<iframe width="1280" height="900" src="${page}"></iframe>`);
function look(page, frame) {
  const article = frame.contentDocument.querySelector("article");
  if (!article) return found.push(`${page}: no article`);
  for (const image of frame.contentDocument.images) {
    if (!image.naturalWidth) found.push(`${page}: missing image ${image.getAttribute("src")}`);
    else if (image.getBoundingClientRect().right > article.getBoundingClientRect().right + 2)
      found.push(`${page}: ${image.getAttribute("src")} leaves the column`);
  }
  for (const text of article.querySelectorAll("p, td, th, li, dd, h1, h2, h3, summary")) {
    const own = [...text.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("\\u0000");
    const list = text.matches("h1, h2, h3") ? /^\\s*[-*•]\\s/ : /(^|\\n)\\s*([-*•]|\\d+\\.)\\s\\S/;
    if (list.test(own)) found.push(`${page}: unrendered list in "${own.slice(0, 60)}"`);
    if (/\\*\\*|\\]\\(|```|(^|\\s)(!!!|\\?\\?\\?) ?\\w|\\|\\s*:?---/.test(own))
      found.push(`${page}: raw markdown in "${own.slice(0, 60)}"`);
  }
  for (const table of article.querySelectorAll("table:not(.highlighttable)"))
    if (table.getBoundingClientRect().right > article.getBoundingClientRect().right + 2)
      found.push(`${page}: a table of ${Math.round(table.getBoundingClientRect().width)} pixels leaves the column`);
}
window.onload = () => {
  document.querySelectorAll("iframe").forEach((frame, i) => look(pages[i], frame));
  document.getElementById("found").textContent = "LOOKED AT " + pages.length + "\\n" + found.join("\\n");
};
</script>"""


class Links(HTMLParser):
    """Where a page leads, and the places in it that others can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places |= {str(given[name]) for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.targets.append(str(given["href"]))


def pages_of(folder: Path) -> list[Path]:
    return sorted(page for page in folder.rglob("*.html") if page.name != "404.html")


def test_no_link_of_any_page_is_dead(site: Path) -> None:  # noqa: F811
    read = {page: Links(page.read_text()) for page in pages_of(site)}
    dead = []
    for page, links in read.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
            if not place.exists():
                dead.append(f"{page.relative_to(site)}: {target}")
            elif parts.fragment and place in read and unquote(parts.fragment) not in read[place].places:
                dead.append(f"{page.relative_to(site)}: no place {target}")
    assert len(read) > 40 and dead == []


@pytest.mark.slow
def test_every_page_shows_its_pictures_and_its_lists(site: Path, tmp_path: Path) -> None:  # noqa: F811
    names = [page.relative_to(site).as_posix() for page in pages_of(site)]
    outer = site / "look.html"
    outer.write_text(LOOK % names)
    try:
        shown = opened(f"file://{outer}", tmp_path, "--allow-file-access-from-files")
    finally:
        outer.unlink()
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    assert html.unescape(found).strip().splitlines() == [f"LOOKED AT {len(names)}"]


@pytest.mark.slow
def test_pages_on_the_disk_are_searched_without_a_server(site: Path, tmp_path: Path) -> None:  # noqa: F811
    shown = opened(f"file://{site / 'index.html'}?q=quarantine", tmp_path)
    assert re.search(r"md-search-result__meta[^>]*>\s*\d+ matching documents", shown)
    assert "own_bars.html" in "".join(re.findall(r'md-search-result__link" |href="(file[^"]+)"', shown))


def opened(url: str, profile: Path, *more: str) -> str:
    """The page as a headless browser ends up with it."""
    if BROWSER is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to open the pages in a browser")
    options = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"),
        *("--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom", *more),
    ]
    done = subprocess.run([BROWSER, *options, url], capture_output=True, text=True, timeout=240, check=True)
    return done.stdout
