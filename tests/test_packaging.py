"""What is installed is what is written down: names, versions, the address, the tiny world inside the wheel."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import difftuning

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALLED_BY_MAKE = ("notebooks", "test", "assets")
IMPORT_SECONDS = 0.3


def requirements(*extras: str) -> list[Requirement]:
    return [Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]]


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(name): version for name, version in pairs}
    assert len(found) == len(lines), "a package stands there twice"
    return found


def test_constraints_pin_what_make_installs_within_the_ranges(constraints):
    for requirement in requirements(*INSTALLED_BY_MAKE):
        version = constraints.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} has no line in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
    assert constraints["torch"] == "2.13.0", "a local version (+cpu) would not be found outside CI"


def test_torchvision_and_what_needs_it_stay_out_of_the_cpu_environment(constraints):
    kept_out = {"torchvision", "torch-fidelity", "clean-fid", "timm"}
    assert not kept_out & set(constraints)
    assert not kept_out & {canonicalize_name(requirement.name) for requirement in requirements(*INSTALLED_BY_MAKE)}


def test_conda_installs_the_extras_that_make_installs():
    lines = [line.split("#")[0].strip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    lines = [line.removeprefix("- ") for line in lines if line]
    extras = re.search(r'-e "\.\[(.*)\]"', (ROOT / "Makefile").read_text())[1]
    assert f"-e .[{extras}]" in lines and lines[0] == "name: difftuning" and "pip" in lines
    python = next(line.removeprefix("python=") for line in lines if line.startswith("python"))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
    listed = set(lines[lines.index("dependencies:") + 1 :]) - {f"python={python}", "pip", "pip:", f"-e .[{extras}]"}
    assert not listed, f"{listed} belong into pyproject.toml"


def test_the_address_stands_in_one_place():
    (address,) = PROJECT["urls"].values()
    owner = re.compile(r"https?://github\.com/difftuning/[\w.-]+|(?<=github/)difftuning/[\w.-]+")
    texts = [
        p for p in _committed_files() if p.suffix in (".py", ".md", ".toml", ".yml", ".txt", ".ipynb", ".json", "") and p != Path(__file__)
    ]
    for path in texts:
        found = owner.findall(path.read_text(encoding="utf-8"))
        if path.name == "pyproject.toml":
            assert found == [address]
        elif path.suffix == ".ipynb":  # badges and the install line: they must follow
            assert all(address.endswith(place.removesuffix(".git")) for place in found), path
        else:
            assert not found, f"{path} repeats the address"


def _committed_files() -> list[Path]:
    tops = ["README.md", "NOTICE", "LICENSE", "Makefile", "pyproject.toml", "constraints.txt", "environment.yml", ".ci/run"]
    folders = ["difftuning", "tests", "notebooks", "data"]
    inner = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    caches = ("__pycache__", ".")  # of Python, linters and notebooks
    return [*(ROOT / top for top in tops), *(p for p in inner if not any(part.startswith(caches) for part in p.relative_to(ROOT).parts))]


def _python(program: str, *flags: str, cwd: Path | None = None, python: Path | str = sys.executable) -> str:
    done = subprocess.run([str(python), *flags, "-c", program], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_difftuning_and_all_its_names_costs_little_beyond_torch():
    program = (
        "import sys, time, torch; begun = time.process_time()\n"
        "import difftuning\nplain = time.process_time() - begun\n"
        "[getattr(difftuning, name) for name in difftuning.__all__]\n"
        "print(plain, time.process_time() - begun, *({'diffusers', 'matplotlib', 'pandas', 'seaborn', 'accelerate'} & set(sys.modules)))"
    )
    measured = [_python(program).split() for _ in range(3)]
    assert all(len(words) == 2 for words in measured), f"heavy imports: {measured[0][2:]}"
    plain, everything = (min(float(words[i]) for words in measured) for i in (0, 1))
    print(f"import difftuning {1000 * plain:.0f} ms, with every public name {1000 * everything:.0f} ms")
    assert plain <= everything <= IMPORT_SECONDS


def test_importing_difftuning_alone_imports_no_torch():
    assert _python("import sys, difftuning; print('torch' in sys.modules)").strip() == "False"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the sdist: what a `pip install git+URL` or an upload would give."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_code_the_licences_and_the_whole_tiny_world(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sums = archive.read("difftuning/world/SHA256SUMS").decode().splitlines()
        for digest, name in (line.split(maxsplit=1) for line in sums):
            assert hashlib.sha256(archive.read(f"difftuning/world/{name}")).hexdigest() == digest, name
    code = {p.relative_to(ROOT).as_posix() for p in (ROOT / "difftuning").rglob("*") if p.suffix in (".py", ".js", ".css")}
    assert code <= names
    assert {name.rsplit("/", 1)[1] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert {name.split("/")[0] for name in names} == {"difftuning", f"difftuning-{difftuning.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("difftuning/world/build/")]


@pytest.mark.slow
def test_the_wheel_alone_samples_from_the_tiny_world_far_from_the_clone(wheel, tmp_path):
    """In an environment that sees the packages of this one, but not its difftuning."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    site = Path(_python("import sysconfig; print(sysconfig.get_path('purelib'))", "-I", python=python).strip())
    # A plain path in a .pth file: the .pth files inside it, an editable install's among them, are not followed.
    (site / "packages.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        str(wheel),
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    program = (
        "import difftuning as dt\nfrom difftuning.support.world import data_folder\n"
        "print(dt.__file__)\nprint(data_folder())\nprint(len(dt.load_task('digits')), len(dt.list_tasks()))\n"
        "pretrained = dt.load_pretrained('tiny')\nimages = dt.sample(pretrained, [0, 1], steps=2)\nprint(tuple(images.shape))"
    )
    lines = _python(program, "-I", cwd=tmp_path, python=python).splitlines()
    assert Path(lines[0]).is_relative_to(site) and Path(lines[1]) == site / "difftuning" / "world"
    assert lines[2:] == ["2000 8", "(2, 3, 32, 32)"]
    assert (home / "bin" / "difftuning").is_file() or sys.platform == "win32"
