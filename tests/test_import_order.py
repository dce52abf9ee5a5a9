"""The package is a pipeline: a file imports from its own row of the table below, or from rows above it, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "difftuning"
ROWS = ["support", "config", "diffusion", "data", "models", "sampling", "training", "evaluation", "planner", "studies", "cli", "lessons"]
ENTRANCES = ("difftuning", "difftuning.__main__")  # they look files up by name, and stand below all rows
MODULES = {
    ".".join(["difftuning", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FILES = [name for name in MODULES if name not in ENTRANCES]


def row(module: str) -> int:
    return ROWS.index(module.split(".")[1])


def imported(module: str, source: str, *, is_package: bool = False) -> set[str]:
    """The package's modules that a file's text imports, wherever in it, for types alone too."""
    found = set()
    here = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*(here[: len(here) - node.level + 1] if node.level else []), *filter(None, [node.module])])
            # `from package import module` and `from module import name` look alike
            found |= {place if (place := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return found & set(MODULES) - {"difftuning"}  # the package itself has but its version


IMPORTS = {name: imported(name, path.read_text(encoding="utf-8"), is_package=path.stem == "__init__") for name, path in MODULES.items()}


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_from_its_own_row_or_from_above(module):
    below = {other for other in IMPORTS[module] if row(other) > row(module)}
    assert not below, f"{module} imports {', '.join(sorted(below))}, which the table has below it"


def test_no_files_import_each_other_in_a_circle():
    TopologicalSorter({name: IMPORTS[name] for name in FILES}).prepare()  # CycleError names the circle


def test_every_file_has_its_row():
    assert {name.split(".")[1] for name in FILES} <= set(ROWS)


def test_imports_are_found_wherever_they_stand():
    source = """
import difftuning.config
from .. import __version__
from ..support import files, random as draws
from .metrics import evaluate
if TYPE_CHECKING:
    from ..models.dit import DiT
def later():
    from ..training.loop import train
"""
    found = imported("difftuning.evaluation.chain_of_forgetting", source)
    assert found == {
        "difftuning.config", "difftuning.support.files", "difftuning.support.random", "difftuning.evaluation.metrics",
        "difftuning.models.dit", "difftuning.training.loop",
    }  # fmt: skip
    assert imported("difftuning.data", "from .tasks import Task", is_package=True) == {"difftuning.data.tasks"}


HEAVY = {"torch", "numpy", "diffusers", "accelerate", "pandas", "matplotlib", "skimage", "scipy", "transformers"}
UP_TO_EVALUATION = [name for name in FILES if row(name) <= ROWS.index("evaluation")]


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        (["difftuning"], HEAVY),
        (["difftuning.config"], HEAVY),
        (["difftuning.cli"], HEAVY),
        (UP_TO_EVALUATION, HEAVY - {"torch", "numpy"}),
    ],
    ids=["the package", "settings", "command line", "all that trains and measures"],
)
def test_nothing_brings_in_a_library_that_it_can_do_without(modules, without):
    program = f"import sys, {', '.join(modules)}; print(*({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert not done.stdout.split()
