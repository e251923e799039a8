"""docs/promises.md: a promise stands in its page, a test that holds it exists, no sentence is without one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.test_commands import functions_in
from tests.kedro_command import PROJECT

TABLE = PROJECT / "docs" / "promises.md"
# Sentences that explain a word, say who is trusted or what to do: nothing in them is held by the code.
EXPLAIN = (
    *("Nothing is chosen by the test split", "another rate, seed or file of bars is another run", "Trusted:"),
    *("What is trusted, what is not", "Not trusted:", "It shows damage, not malice", "Features of your own"),
    *("With partitions.scheduler=dask", "The lock is advisory", "Denial of service", "Each of these is held by"),
    *("docs/promises.md names it", "Please report a weakness", "There is nothing to remember", "A run lives in data/"),
    *("Exit codes and refusals:", "nqcast.load, kedro-viz and notebooks", "A stretch of another contract is known by"),
)


def plain(text: str) -> str:
    """Without marks of emphasis, code and links, white space folded."""
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "").replace("`", "").split())


def rows() -> Iterator[tuple[str, str, list[str]]]:
    """Page, promise and tests of each row."""
    page = ""
    for line in TABLE.read_text().splitlines():
        if heading := re.fullmatch(r"## (\S+\.md)", line):
            page = heading[1]
        elif line.startswith("| ") and "`test_" in line:
            promise, tests = line.strip("| ").split(" | ")
            yield page, promise, re.findall(r"`(test_\w+)`", tests)


def test_every_promise_stands_in_its_page() -> None:
    found = list(rows())
    assert len(found) > 40
    texts = {page: plain((PROJECT / page).read_text()) for page, _, _ in found}
    assert [f"{page}: {promise}" for page, promise, _ in found if plain(promise) not in texts[page]] == []


def test_every_test_that_is_named_is_there() -> None:
    there = {name for file in (PROJECT / "tests").rglob("test_*.py") for name in functions_in(file)}
    assert sorted({test for _, _, tests in rows() for test in tests} - there) == []


PAGES = ("SECURITY.md", "docs/resume.md", "docs/when_things_go_wrong.md")


def promising_items() -> Iterator[tuple[str, str]]:
    """Bullets of the README's promises, and the rows of exit statuses."""
    readme = (PROJECT / "README.md").read_text().split("## What is promised")[1]
    for bullet in re.findall(r"^- (.*?)(?=\n(?:- |\n|$))", readme, re.MULTILINE | re.DOTALL):
        yield "README.md", plain(bullet)
    page = "docs/when_things_go_wrong.md"
    for row in re.findall(r"^\| [\d, ]+ \| (.*) \|$", (PROJECT / page).read_text(), re.MULTILINE):
        yield page, plain(row)


def sentences(page: str) -> Iterator[str]:
    """The sentences of a page, without its headings, tables and commands."""
    text = re.sub(r"```.*?```", "", (PROJECT / page).read_text(), flags=re.DOTALL)
    text = re.sub(r"^(#|\|).*$", "\n", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text):
        yield from (plain(one).lstrip("- ") for one in re.split(r"(?<=[.:])\s+(?=[A-Z`*])", paragraph.strip()))


def test_no_sentence_bullet_or_exit_status_is_without_its_test() -> None:
    promises: dict[str, list[str]] = {}
    for page, promise, _ in rows():
        promises.setdefault(page, []).append(plain(promise))
    items = [*promising_items(), *((page, one) for page in PAGES for one in sentences(page) if len(one.split()) > 2)]
    assert len(items) > 80
    bare = [
        f"{page}: {item[:90]}"
        for page, item in items
        if not item.startswith(EXPLAIN)
        and not any(promise in item or item.rstrip(".:") in promise for promise in promises[page])
    ]
    assert bare == []


def test_the_source_holds_nothing_that_runs_what_it_reads() -> None:
    """No pickle, torch.load, eval, exec, shell=True or unsafe YAML: read from the syntax tree of every file."""
    found = []
    for path in sorted((PROJECT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if what := _runs_what_it_reads(node):
                found.append(f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}: {what}")
    assert found == []
    sample = (
        "import pickle\nfrom torch import load\ntorch.load(x)\neval(x)\nexec(x)\nrun(x, shell=True)\nyaml.load(x)\n"
    )
    assert len([node for node in ast.walk(ast.parse(sample)) if _runs_what_it_reads(node)]) == 7


def _runs_what_it_reads(node: ast.AST) -> str:
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = getattr(node, "module", None) or ""
        names = {alias.name.split(".")[0] for alias in node.names} | {module.split(".")[0]}
        bad = names & {"pickle", "cloudpickle", "dill", "joblib"}
        if module == "torch" and any(alias.name == "load" for alias in node.names):
            bad = {"torch.load"}
        return ", ".join(bad)
    if not isinstance(node, ast.Call):
        return ""
    called = ast.unparse(node.func)
    shell = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
    unsafe = called in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
    return called if unsafe or shell else ""


def test_the_page_is_in_the_navigation() -> None:
    assert "promises.md" in (PROJECT / "mkdocs.yml").read_text() and Path(TABLE).is_file()
