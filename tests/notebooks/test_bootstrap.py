"""The first cell of every lesson: on Colab it installs difftuning and leaves torch alone; elsewhere it does nothing.

The cell runs as it stands.  Its address is led to this clone by git's own `url.<base>.insteadOf`, as anyone behind
a mirror would do it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
OTHER_TORCH = "2.9.1"  # in the range, and neither the constraints' version nor the newest
# Runs a cell as a notebook does and tells which processes it started; audit events come from the interpreter itself.
HARNESS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
shell, started = InteractiveShell.instance(), []
sys.addaudithook(lambda event, details: started.append(event) if event in STARTS else None)
result = shell.run_cell(open(sys.argv[1], encoding="utf-8").read())
print("STARTED", json.dumps(sorted(set(started))))
result.raise_error()
"""
SAMPLES = """
import difftuning as dt
print(dt.__file__)
print(tuple(dt.sample(dt.load_pretrained("tiny"), [0, 1], steps=2).shape), len(dt.load_task("digits")))
"""


def first_code_cell(path: Path) -> str:
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def cell() -> str:
    return first_code_cell(LESSONS[0])


def run_cell(cell: str, folder: Path, python: Path | str = sys.executable, **environment: str) -> tuple[list[str], str]:
    """The kinds of processes that the cell started, and all that it printed."""
    folder.joinpath("cell.py").write_text(cell, encoding="utf-8")
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(python), "-c", HARNESS, "cell.py"], cwd=folder, capture_output=True, text=True,
        env=own | {"IPYTHONDIR": str(folder / "ipython")} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("STARTED ")]
    return json.loads(line.removeprefix("STARTED ")), done.stdout + done.stderr


def test_every_lesson_begins_with_the_same_cell_and_the_projects_address(cell):
    assert f"git+{PROJECT['urls']['Repository']}" in cell
    assert {path.name for path in LESSONS if first_code_cell(path) != cell} == set()


def test_the_bootstrap_does_not_install_jupyter_over_colabs_own(cell):
    """Colab's kernel and widgets are its own builds; an extra that asks for newer ones would replace them in a running session."""
    requirement = Requirement(next(part for part in cell.split('"') if " @ git+" in part))
    asked = PROJECT["dependencies"] + [line for extra in requirement.extras for line in PROJECT["optional-dependencies"][extra]]
    assert not {"ipykernel", "ipywidgets", "jupyterlab", "ipython"} & {Requirement(line).name for line in asked}


@pytest.mark.slow
def test_where_difftuning_imports_the_bootstrap_starts_no_process(cell, tmp_path):
    started, printed = run_cell(cell, tmp_path)
    assert started == [] and "pip" not in printed


@pytest.mark.slow
def test_a_process_that_a_cell_starts_is_noticed(tmp_path):
    started, _ = run_cell("%pip --version", tmp_path)
    assert started


@pytest.fixture
def colab_like(tmp_path) -> Path:
    """An environment with nothing but IPython and another torch.

    The torch is this environment's own, linked, under metadata that say OTHER_TORCH: a real one of another version
    takes gigabytes from the registry.  So pip decides by the other version, and the package still computes.  What
    torch needs is there too, as it is wherever torch was installed.
    """
    home = tmp_path / "colab"
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin" / "python"
    torch = importlib.metadata.distribution("torch")
    needed = [r for r in map(Requirement, torch.requires) if r.marker is None or r.marker.evaluate({"extra": ""})]
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-U", "ipython", *map(str, needed)], check=True)
    site = next((home / "lib").glob("python*/site-packages"))
    for name in {file.parts[0] for file in torch.files} - {"..", "__pycache__"}:
        if not name.endswith(".dist-info"):
            (site / name).symlink_to(torch.locate_file(name))
    own = site / f"torch-{OTHER_TORCH}.dist-info"
    own.mkdir()
    metadata = torch.read_text("METADATA").replace(f"\nVersion: {torch.version}\n", f"\nVersion: {OTHER_TORCH}\n", 1)
    (own / "METADATA").write_text(metadata, encoding="utf-8")
    (own / "INSTALLER").write_text("pip\n")
    (own / "RECORD").write_text(f"torch-{OTHER_TORCH}.dist-info/METADATA,,\n")
    return python


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="links to this environment's torch")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="installs from the clone, and this is none")
def test_the_bootstrap_installs_beside_another_torch_and_leaves_it(cell, colab_like, tmp_path):
    before = installed(colab_like)
    assert before["torch"] == OTHER_TORCH and "difftuning" not in before
    redirect = {
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROJECT["urls"]["Repository"],
    }  # fmt: skip
    started, printed = run_cell(cell, tmp_path, colab_like, **redirect)
    assert started, printed
    after = installed(colab_like)
    assert {name: after.get(name) for name in before} == before, "what was there stays as it was"
    assert "difftuning" in after and "diffusers" in after
    assert not [name for name in after if name.startswith(("nvidia-", "triton", "torchvision", "cuda-"))]
    done = subprocess.run([str(colab_like), "-I", "-c", SAMPLES], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    place, shown = done.stdout.splitlines()[-2:]
    assert Path(place).is_relative_to(colab_like.parents[1]) and shown == "(2, 3, 32, 32) 2000"


def installed(python: Path) -> dict[str, str]:
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {row["name"].lower(): row["version"] for row in json.loads(listed.stdout)}
