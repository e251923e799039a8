"""What an import of nqcast settles for its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kedro_command import PROJECT


@pytest.mark.parametrize(("given", "then"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(given: str | None, then: str) -> None:
    """Known to OpenMP too, which prints what it has read when torch loads it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    code = "import os; import nqcast.model; from nqcast.model import MIGT_TVDT; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == then
    assert f"OMP_WAIT_POLICY = '{then.upper()}'" in done.stderr


@pytest.mark.slow
def test_mlflow_makes_itself_no_identity_in_a_users_home(tmp_path: Path) -> None:
    """MLflow does where it is imported first; under pytest or in CI it never would, so no variable tells of them."""
    variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "src")}
    code = "import nqcast.tracking, mlflow.tracking; from mlflow.telemetry import get_telemetry_client as c; print(c())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("word", "cure"),
    [("forecast", "a pipeline is run by nqcast --pipelines forecast"), ("chek", "did you mean nqcast check?")],
)
def test_a_word_that_is_no_command_is_met_with_the_one_that_was_meant(word: str, cure: str) -> None:
    done = subprocess.run([sys.executable, "-m", "nqcast", word], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2, f"error: expected check, watch, run or an option, found '{word}': {cure}\n",
    )  # fmt: skip
