"""What a run says on a terminal of 80 columns and 60 lines, and what natural mistakes are met with."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.kedro_command import KEDRO, environment, kedro

pytestmark = pytest.mark.slow


def screen(*arguments: str, data: Path) -> tuple[int, str]:
    """Exit status and everything printed on a terminal of 80 columns, the data folder named as a user's would be."""
    done = kedro(*arguments, data=data, columns=80)
    return done.returncode, (done.stdout + done.stderr).replace(str(data), "data")


@pytest.fixture(scope="module")
def whole(toy_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data folder of a whole run, to be changed, and what the run printed."""
    made, output = toy_run
    return shutil.copytree(made, tmp_path_factory.mktemp("terminal") / "data"), output.replace(str(made), "data")


def test_a_whole_run_fits_one_screen_and_says_once_how_good_the_model_is(whole: tuple[Path, str]) -> None:
    lines = whole[1].splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    assert whole[1].count("Skill over constants") == 1
    assert "time_blocks" not in whole[1]  # layers are listed where nqcast logs at DEBUG


def test_every_epoch_is_a_line_that_ends_in_its_gain_over_the_start(whole: tuple[Path, str]) -> None:
    lines = [line for line in whole[1].splitlines() if re.match(r"INFO +epoch +\d", line)]
    assert len(lines) == 3
    assert all(re.search(r"over seasonal_har [+-]\d+\.\d\d %\s*$", line) for line in lines)


def test_a_whole_run_ends_in_five_lines(whole: tuple[Path, str]) -> None:
    verdict, gain, covered, took, opened = whole[1].splitlines()[-5:]
    assert "seasonal har" in verdict
    assert re.match(r"Gain in skill [+-][\d.]+ points \[[+-][\d.]+, [+-][\d.]+\] at 95%; skill over constants", gain)
    assert re.match(r"Inside the 80 % interval: model [\d.]+ %, conformal [\d.]+ %, online [\d.]+ %\.", covered)
    assert re.fullmatch(r"Took [\d.]+ (s|min), on the SIMULATED MARKET \(seed 7\)\.", took)
    assert opened == "open data/08_reporting/report.html"


def test_a_forecast_ends_with_its_page_and_says_that_the_market_is_simulated(whole: tuple[Path, str]) -> None:
    status, output = screen("run", "--env", "test", "--pipelines", "forecast", data=whole[0])
    assert status == 0
    assert max(map(len, output.splitlines())) <= 80
    assert output.splitlines()[-1] == "open data/08_reporting/forecast.html"
    assert "on the SIMULATED MARKET (seed 7)" in output.splitlines()[-2]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("run --env tset", "expected an environment, found 'tset': did you mean --env test?"),
        ("run --env test --pipelines forcast", "found 'forcast': did you mean --pipelines forecast?"),
        ("run --env test --runner ParallelRunner", "leave --runner out"),
        ("run --env test --pipelines evaluate", "`kedro run --env test --pipelines ingest,features,train` makes it"),
        ("run --env test --pipelines forecast", "`kedro run --env test --pipelines ingest,features,train` makes it"),
        ("run --env test --pipelines train", "expected features, found none so far: `kedro run --env test --pipelines"),
        ("run --env test --params evaluate.baselines=seasonl_har", "did you mean seasonal_har?"),
        ("run --env test --params bars=my.csv", "add --env nq to read the file"),
    ],
)
def test_a_natural_mistake_is_met_with_its_cure_in_one_line(command: str, message: str, tmp_path: Path) -> None:
    status, output = screen(*command.split(), data=tmp_path)
    assert status != 0
    (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert message in error or message in output.split("error: ")[1]
    assert "Traceback" not in output and not list(tmp_path.rglob("*.parquet"))


def test_with_nothing_missing_a_run_says_that_there_is_nothing_to_do(whole: tuple[Path, str]) -> None:
    status, output = screen("run", "--env", "test", "--pipelines", "features", "--only-missing-outputs", data=whole[0])
    assert status == 0
    assert "Nothing to do: every output is there." in output


def test_after_a_stop_between_training_and_calibration_evaluate_names_the_way_on(whole: tuple[Path, str]) -> None:
    shutil.rmtree(whole[0] / "06_models" / "calibration.json")
    status, output = screen("run", "--env", "test", "--pipelines", "evaluate", data=whole[0])
    assert status != 0
    assert "expected calibration, found none so far: `kedro run --env test --pipelines train` makes it" in output


def test_the_bare_command_shows_what_there_is_and_runs_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [KEDRO.with_name("nqcast")], env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=True
    )
    assert "--pipelines" in done.stdout and "nqcast watch SOURCE" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_list_with_commas_is_told_of_the_plus(tmp_path: Path) -> None:
    status, output = screen("run", "--params", "quantiles=0.1,0.5", data=tmp_path)
    assert status != 0 and "the items of a list are joined by +: quantiles=.1+.5+.9" in " ".join(output.split())


def test_a_bad_input_is_one_line_without_kedros_own(tmp_path: Path) -> None:
    chosen = ("run", "--env", "test", "--pipelines", "ingest,features", "--params", "ingest.min_rows=10000000")
    status, output = screen(*chosen, data=tmp_path)
    assert status != 0
    assert (
        output.split("\n(NQCAST")[0].strip()
        == "error: expected at least 10000000 usable bars, found 78161: bring more bars"
    )


def test_the_command_outside_of_the_project_says_where_to_go(tmp_path: Path) -> None:
    done = subprocess.run(
        [KEDRO.with_name("nqcast"), "run"], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "run the command in the project's folder, or name the configuration with --conf-source FOLDER" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
