"""C++ parts: where they are kept, whom they are taken from, and every way in which a compiler can fail."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.model.test_fused import needs_compiler

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.model.fused import encoder, native_code, operations, window_norm
from nqcast.model.fused.native_code import CannotBuildError, build

Compiler = Callable[[str], None]
ANSWER = 'extern "C" int answer() { return ANSWER; }'


@pytest.fixture(autouse=True)
def found_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept for the next test, and nothing in the home of whoever runs these."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for found in (encoder._fused_encoder, window_norm.fused_window_norm):
        found.cache_clear()
    yield
    for found in (encoder._fused_encoder, window_norm.fused_window_norm):
        found.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "answer.cpp"
    path.parent.mkdir()
    path.write_text(ANSWER)
    return path


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """compiler(script): what CXX names from here on."""
    path = tmp_path / "compiler"
    monkeypatch.setenv("CXX", str(path))

    def write(script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)

    return write


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


@needs_compiler
def test_what_was_built_for_other_instructions_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a shared file system, where machines differ and the compiler's path does not."""
    source, compiler = tmp_path / "answer.cpp", tmp_path / "compiler"
    source.write_text(ANSWER)
    monkeypatch.setenv("CXX", str(compiler))
    for macro, answer in (("ONE", 1), ("OTHER", 2)):
        compiler.write_text(f'#!/bin/sh\nexec "{shutil.which("g++")}" "$@" -D{macro} -UANSWER -DANSWER={answer}\n')
        compiler.chmod(0o700)
        assert build(source, {"ANSWER": 0}).answer() == answer


@needs_compiler
def test_code_that_a_compiler_refuses_is_an_error_with_its_first_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main( {")
    with pytest.raises(CannotBuildError, match=r"refused it.*error"):
        build(broken, {})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["broken.cpp"]


@needs_compiler
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data + b"more"])
def test_a_library_that_is_not_as_it_was_built_is_built_again(
    damage: Callable[[bytes], bytes], source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Loading a shortened one would end the process by SIGBUS, without a word."""
    build(source, {"ANSWER": 42})
    (kept,) = libraries(source.parent)
    whole = kept.read_bytes()
    kept.unlink()  # not written over: this process has it mapped
    kept.write_bytes(damage(whole))
    kept.chmod(0o700)
    assert build(source, {"ANSWER": 42}).answer() == 42
    assert "built again" in caplog.text and [path.read_bytes() for path in libraries(source.parent)] == [whole]


@needs_compiler
def test_a_killed_compilers_rests_are_swept_up_and_a_living_ones_are_not(source: Path) -> None:
    folder = next(native_code._folders(source))
    for name, age in (("making-old", 2 * native_code._ABANDONED), ("making-new", 0.0)):
        (folder / name).mkdir(parents=True)
        stamp = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (stamp, stamp))
    build(source, {"ANSWER": 1})
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["making-new"]


@needs_compiler
def test_a_folder_where_others_may_write_is_not_taken(source: Path, tmp_path: Path) -> None:
    """Another user could put a library there; the user's own cache, which nobody else enters, is taken instead."""
    folder = next(native_code._folders(source))
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert build(source, {"ANSWER": 42}).answer() == 42
    assert not libraries(folder) and len(libraries(tmp_path / "cache")) == 1
    assert (tmp_path / "cache" / "nqcast" / "native").stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_a_library_of_another_owner_is_not_taken(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build(source, {"ANSWER": 42})
    (kept,) = libraries(source.parent)
    monkeypatch.setattr(native_code, "_is_own", lambda path: path != kept)
    assert build(source, {"ANSWER": 42}).answer() == 42
    assert "built again" in caplog.text


@needs_compiler
def test_where_nothing_can_be_kept_it_is_built_for_the_process_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that is read-only but for /tmp."""
    (source.parent / "__pycache__").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(source))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert build(source, {"ANSWER": 42}).answer() == 42
    assert not list((tmp_path / "temporary").iterdir()) and not libraries(tmp_path)


@needs_compiler
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (r"printf 'caf\351: error: no\n' >&2; exit 1", "caf\ufffd: error: no"),
        (r"printf '\377\376' >&2; exit 1", "refused it"),
        ("exit 3", "refused it: 3"),
        ("kill -9 $$", "refused it: -9"),
        (f'[ "$2" = -dM ] && exec {shutil.which("g++")} "$@"; exit 0', "cannot be built or loaded"),
        (f'[ "$2" = -dM ] && exec {shutil.which("g++")} "$@"; for last; do :; done; echo no > "$last"', "loaded"),
    ],
)
def test_whatever_a_compiler_does_training_goes_on_with_one_line(
    script: str, said: str, compiler: Compiler, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler(script)
    with pytest.raises(CannotBuildError) as error:
        build(source, {"ANSWER": 42})
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not libraries(source.parent)


@pytest.mark.slow
@needs_compiler
def test_operations_that_give_other_numbers_than_torchs_are_not_taken(compiler: Compiler) -> None:
    """A compiler that computes wrongly: roots of the third degree, logarithms to the base 2."""
    compiler(f'exec {shutil.which("g++")} "$@" -Dsqrtf=cbrtf -Dlogf=log2f')
    model = fuse(MIGT_TVDT(ModelConfig(), seed=0))
    assert operations(model) == []
    with pytest.raises(ValueError, match="other numbers than torch's operations"):
        fuse(MIGT_TVDT(ModelConfig(kernels="fused"), seed=0))


@needs_compiler
def test_the_proof_moves_no_generator_and_each_operation_has_a_name() -> None:
    before = torch.get_rng_state()
    names = operations(fuse(MIGT_TVDT(ModelConfig(), seed=0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert [name.partition("-")[0] for name in names] == ["encoder", "encoder", "window_norm"]
