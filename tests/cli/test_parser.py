"""Flags are the functions' parameters, and help comes at once."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import difftuning as dt
from difftuning.cli.methods import STOPPING
from difftuning.cli.parser import TRAIN_OPTIONS, build_parser


@pytest.mark.parametrize("line, function, own", [
    ("bank --folder f --size 3 --shard-size 2 --reencode", dt.MemoryBank.sample, {"model", "repair"}),
    ("sample --guide g --labels 1 --count 2 --batch-size 3", dt.sample, {"count", "out"}),
])  # fmt: skip
def test_the_flags_of_bank_and_sample_are_parameters_of_the_functions(line, function, own):
    """Whatever the parser passes on, device aside, is a parameter by the same name."""
    sampling = " --steps 5 --sampler ddim --guidance 1.5 --seed 1 --device cpu"
    given = set(vars(build_parser().parse_args((line + sampling).split()))) - own - {"command", "parser", "device"}
    assert {"steps", "sampler", "guidance", "seed"} <= given <= set(inspect.signature(function).parameters)


def test_the_flags_of_early_stopping_have_the_classs_defaults():
    own = [each for each in inspect.signature(dt.EarlyStopping).parameters.values() if each.kind == each.KEYWORD_ONLY]
    assert {each.name: str(each.default) for each in own} == {name: setting.default for name, setting in STOPPING.items()}


def test_what_training_a_controlnet_can_be_told_in_python_it_can_be_told_by_flags():
    """Settings are flags by themselves; the rest of the parameters are for programs."""
    flags = {**TRAIN_OPTIONS, "resume": "", "kind": TRAIN_OPTIONS["control"], "base": TRAIN_OPTIONS["model"]}
    programs = {"config", "callbacks", "progress"}
    assert set(inspect.signature(dt.fine_tune_controlnet).parameters) - programs <= set(flags)


def test_help_comes_at_once_and_imports_nothing_heavy():
    program = "import sys, difftuning.cli as cli\ntry: cli.main(['train', '--help'])\nexcept SystemExit: pass\n"
    program += "heavy = {'torch', 'numpy', 'diffusers', 'pandas'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--bank-share" in done.stdout and "of the global batch, rounded down: 6 of 32" in " ".join(done.stdout.split())


def test_help_takes_less_than_half_a_second():
    """Of processor time, which other work on the machine does not stretch much; the best of three."""
    measured = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'difftuning', '--help'], check=True)\n"
    measured += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, file=sys.stderr)"
    runs = [subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True) for _ in range(3)]
    assert all("pretrain" in done.stdout for done in runs) and min(float(done.stderr) for done in runs) < 0.5


def test_python_m_difftuning_is_the_command():
    done = subprocess.run([sys.executable, "-m", "difftuning", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"difftuning {dt.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "difftuning", "train"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("difftuning: --task is needed")
