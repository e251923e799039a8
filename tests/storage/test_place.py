"""Where NQCAST_DATA lies is one place for whoever asks: the code, the catalog and `make mlflow`."""

import subprocess
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from nqcast import settings
from nqcast.live.command import main as watch
from nqcast.storage.place import StorePath, data_place, local_place, place, working

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NQCAST_WORK", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def catalogued() -> str:
    found = settings.CONFIG_LOADER_CLASS(
        str(PROJECT / "conf"), env="base", **{**settings.CONFIG_LOADER_ARGS, "default_run_env": "base"}
    )
    assert isinstance(found, OmegaConfigLoader)
    return str(found["globals"]["data"])


def tracked() -> str:
    told = subprocess.run(["make", "-n", "mlflow"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return told.partition("sqlite:///")[2].partition("/09_tracking")[0]


@pytest.mark.parametrize("named", ["~/data", "{home}/data", "file://{home}/data", "relative", "", None])
@pytest.mark.parametrize("work", [None, "elsewhere"])
def test_a_local_folder_is_the_same_for_the_code_the_catalog_and_make(
    named: str | None, work: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is None:
        monkeypatch.delenv("NQCAST_DATA", raising=False)
    else:
        monkeypatch.setenv("NQCAST_DATA", named.format(home=home))
    if work:
        monkeypatch.setenv("NQCAST_WORK", work)
    expected = {"relative": Path("relative"), "": Path("data"), None: Path("data")}.get(named, home / "data")
    assert Path(tracked()) == expected  # make runs in the project's folder
    from_here = home / expected if named == "relative" else expected
    assert data_place() == place(catalogued()) == working(data_place()) == from_here
    assert "~" not in catalogued()


@pytest.mark.parametrize("work", ["", "~/work", "work"])
def test_where_the_data_lie_in_a_store_what_is_worked_in_is_the_same_for_the_code_and_make(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NQCAST_DATA", "s3://bucket/nqcast")
    monkeypatch.setenv("NQCAST_WORK", work)
    assert data_place() == StorePath(catalogued()) == StorePath("s3://bucket/nqcast")
    assert working(data_place()) == Path(tracked()) == Path(work or "data").expanduser()


@pytest.mark.parametrize("url", ["file:/tmp/x", "file:x", "s3:/bucket/x", "http://host/x", Path("s3://bucket/x")])
def test_what_would_be_a_folder_named_like_a_url_is_refused(url: str | Path) -> None:
    with pytest.raises(ValueError, match=r"^expected a local path, or a place in a store.*found \S+$"):
        place(url)


def test_what_is_watched_is_not_written_into_a_store(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(["bars.csv", "--out", "s3://bucket/watch"]) == 1
    assert capsys.readouterr().err.startswith("error: expected a folder of the local disk, found s3://bucket/watch")
    monkeypatch.setenv("NQCAST_DATA", "file:/tmp/x")
    assert watch(["bars.csv"]) == 1
    assert capsys.readouterr().err.startswith("error: expected a local path, or a place in a store")
    assert list(home.iterdir()) == [] and local_place("~/x") == home / "x"
