"""The house rules that no reviewer should have to remember."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "nqcast"
MODULES = sorted(SOURCE.rglob("*.py"))
LIBRARIES = {"kedro", "mlflow", "torch", "matplotlib", "pandas"}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_imports_keep_their_directions(project_root: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=project_root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_registering_the_pipelines_loads_neither_torch_nor_mlflow() -> None:
    done = run_python(
        "import sys; from nqcast import settings; from nqcast.pipeline_registry import register_pipelines;"
        "register_pipelines(); print(sorted({'torch', 'mlflow', 'matplotlib', 'databento'} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "package",
    ["market", "data", "model", "training", "evaluation", "experiments", "backtest", "monitoring", "tracking"],
)
def test_configurations_are_cheap_to_import(package: str) -> None:
    done = run_python(
        f"import sys; import nqcast.{package}.config;"
        "print(sorted({'torch', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(("means", "place"), [("hashlib", ["fingerprint.py"]), ("difflib", ["fields.py"])])
def test_a_content_is_named_and_a_slip_is_answered_in_one_place(means: str, place: list[str]) -> None:
    assert [m.name for m in MODULES if means in m.read_text()] == place


def test_a_changed_configuration_is_checked_anew() -> None:
    assert [m.name for m in MODULES if "model_copy(" in m.read_text()] == [], "nqcast.fields.changed validates"


def test_every_package_has_a_folder_of_tests_and_a_row_in_the_maps(project_root: Path) -> None:
    packages = {folder.parent.name for folder in SOURCE.glob("*/__init__.py")}
    tested = {folder.parent.name for folder in (project_root / "tests").glob("*/test_*.py")}
    assert packages - tested == set()
    assert tested - packages == {"docs", "faults"}  # what is no package: the pages, and attacks on the whole
    tree = (project_root / "README.md").read_text().split("\nsrc/nqcast/\n")[1].split("```")[0]
    rows = (project_root / "docs" / "architecture.md").read_text()
    loose = {module.stem for module in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert {name for name in packages if f"\n  {name}/ " not in f"\n{tree}"} == set()
    assert {name for name in packages | loose if f"`{name}`" not in rows} == set()


def test_every_layer_of_the_configuration_stands_in_the_maps(project_root: Path) -> None:
    layers = {f"conf/{folder.name}" for folder in (project_root / "conf").iterdir() if folder.is_dir()}
    for name in ("README.md", "conf/README.md"):
        assert {layer for layer in layers if not re.search(rf"{layer}\b", (project_root / name).read_text())} == set()


def test_no_package_imports_what_its_row_in_the_map_says_it_never_does(project_root: Path) -> None:
    graph = grimp.build_graph("nqcast", include_external_packages=True, exclude_type_checking_imports=True)
    packages = {folder.parent.name for folder in SOURCE.glob("*/__init__.py")}
    broken, asked = [], 0
    for line in (project_root / "docs" / "architecture.md").read_text().splitlines():
        cells = line.split("|")
        if len(cells) != 5 or not cells[1].startswith(" `") or cells[3].startswith(" —"):
            continue
        never = set(re.findall(r"\w+", cells[3].partition(":")[0].lower())) & {*packages, *LIBRARIES}
        never |= packages if "everything else of the project" in cells[3] else set()
        for own in re.findall(r"`(\w+)`", cells[1]):
            for module in (m for m in graph.modules if f"{m}.".startswith(f"nqcast.{own}.")):
                imported = graph.find_modules_directly_imported_by(module)
                found = {name.removeprefix("nqcast.").partition(".")[0] for name in imported}
                broken += [(module, name) for name in (never - {own}) & found]
                asked += len(never)
    assert broken == [] and asked > 500


def test_every_module_has_a_name_that_says_something() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert [m for m in MODULES if m.stem in vague or vague & set(m.relative_to(SOURCE).parts)] == []
    assert [m for m in MODULES if m.stem.startswith("test_") or m.stem.endswith("_test")] == [], "pytest collects these"


def test_a_docstring_has_its_subject_and_leans_on_no_neighbour() -> None:
    leaning = r'"""\s*((That|Those|Their|Of|By|As) |The same (for|without|with|of|as|before|four) |Raises:)'
    assert [f"{m.name}: {found[0]}" for m in MODULES for found in re.finditer(leaning, m.read_text())] == []


@pytest.mark.parametrize(
    ("pattern", "danger"),
    [
        (r"\bimport pickle|\bimport dill|\bimport joblib|cloudpickle", "unpickling runs code"),
        (r"(?<!safetensors\.)torch\.(load|save)\(", "torch.load and torch.save pickle"),
        (r"(?<![\w.])(eval|exec)\(", "code from text"),
        (r"shell=True", "a shell reads file names"),
        (r"yaml\.(load|unsafe_load|full_load)\(", "YAML tags make objects"),
        (r"^\s*print\(", "logging is the voice of the package"),
    ],
)
def test_source_holds_no_dangerous_call(pattern: str, danger: str) -> None:
    found = [
        f"{m.relative_to(SOURCE)}:{i}: {line.strip()}"
        for m in MODULES
        for i, line in enumerate(m.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], danger


def test_the_lock_is_hashed_and_brings_no_accelerator_build(project_root: Path) -> None:
    lock = (project_root / "requirements" / "lock.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9][\w.\-]*(?:\[[\w,]*\])?==)", lock)
    pinned = [e for e in entries if re.match(r"[a-z0-9][\w.\-]*(\[[\w,]*\])?==", e)]
    assert len(pinned) > 100
    assert [e.split("\n")[0] for e in pinned if "--hash=sha256:" not in e] == []
    assert [e.split("\n")[0] for e in pinned if re.match(r"(torch|nvidia-|triton|cuda-)", e)] == []
