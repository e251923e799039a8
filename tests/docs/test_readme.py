"""The README's tree and the table of packages name what is there, and nothing else."""

from __future__ import annotations

import re

from tests.kedro_command import PROJECT

SOURCE = PROJECT / "src" / "nqcast"
PACKAGES = {path.parent.name for path in SOURCE.glob("*/__init__.py")}


def tree() -> str:
    """The README's section on the tree."""
    text = (PROJECT / "README.md").read_text()
    return re.split(r"^## ", text.split("## The tree")[1], flags=re.MULTILINE)[0]


def test_every_package_has_its_line_in_the_tree() -> None:
    assert set(re.findall(r"^  (\w+)/ ", tree(), re.MULTILINE)) == PACKAGES


def test_every_package_has_its_row_in_the_architecture() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == PACKAGES


def test_the_tree_names_every_pipeline() -> None:
    named = re.search(r"pipelines/ +([\w, \n]+):", tree())
    assert named
    names = {name.strip() for name in named[1].replace("\n", " ").split(",")}
    assert names == {path.stem for path in SOURCE.glob("pipelines/*.py")} - {"__init__"}


def test_folders_at_the_top_are_there() -> None:
    for name in re.findall(r"^(\w+)/ ", tree(), re.MULTILINE):
        assert (PROJECT / name).is_dir(), name
    for name in re.findall(r"\bconf/(\w+)", tree()):
        assert (PROJECT / "conf" / name).is_dir(), name


def test_the_files_that_the_readme_links_are_there() -> None:
    text = (PROJECT / "README.md").read_text()
    for target in re.findall(r"\]\(([\w/.]+)\)", text) + re.findall(r"`((?:docs|tests)/[\w/.]+\.(?:md|py))`", text):
        assert (PROJECT / target).exists(), target
