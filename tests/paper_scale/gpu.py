"""`make gpu`: what a CPU cannot show, on one 80 GB card in under eight minutes.

    make gpu                               in .venv
    make gpu GPU_PYTHON=python3            with another interpreter that has the package's dependencies
    make gpu GPU_FLAGS=--toy               the same stages on the CPU, with models of next to no size
    make gpu GPU_FLAGS="--stage dit_xl"    one stage alone

Every stage is a process of its own with a time limit: one that fails, hangs or leaves the card in a bad state takes
nothing from the others.  The results go to $OUT, else runs/gpu: gpu.csv and gpu.md, and of the pre-training model.tar
(the averaged weights in half precision; unpacked, a folder for `load_pretrained`), pretraining_loss.csv and samples.png.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Sequence

from paper_scale.measurements import FAILED, Table, markdown, read_rows

LIMITS = {"installation": 60, "pretraining": 310, "dit_xl": 105}  # seconds, imports too; a stage plans to end well before its own
REPORTED = 3  # exit code of a stage that has written down itself why it failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="on the CPU, in seconds")
    parser.add_argument("--stage", choices=LIMITS, help="this one alone")
    options = parser.parse_args(arguments)
    out = Path(os.environ.get("OUT") or "runs/gpu")
    stages = [options.stage] if options.stage else list(LIMITS)
    (out / "gpu.csv").unlink(missing_ok=True)
    results = [run_apart(stage, out, toy=options.toy) for stage in stages]
    print((out / "gpu.md").read_text(encoding="utf-8"))
    return 0 if all(results) else 1


def run_apart(stage: str, out: Path, *, toy: bool) -> bool:
    """Run a stage in a process of its own; whether it went well.  gpu.md is written after each."""
    began, problem = time.monotonic(), None
    program = f"from paper_scale.gpu import run_stage; raise SystemExit(run_stage({stage!r}, {str(out)!r}, toy={toy}))"
    try:
        code = subprocess.run([sys.executable, "-c", program], timeout=LIMITS[stage], env=_environment()).returncode
    except subprocess.TimeoutExpired:
        code, problem = REPORTED, f"not done after {LIMITS[stage]} s, and ended"
    if code not in (0, REPORTED):
        problem = f"the process ended with code {code}"
    rows = read_rows(out / "gpu.csv")
    table = Table(out / "gpu.csv", stage, rows[-1]["device"] if rows else "")
    if problem:
        table.add(FAILED, problem)
    table.add("whole stage", time.monotonic() - began, "s")
    (out / "gpu.md").write_text(markdown(read_rows(out / "gpu.csv")), encoding="utf-8")
    return code == 0


def run_stage(stage: str, out: str | Path, *, toy: bool) -> int:
    """The work of a stage, in this process; the exit code."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = Table(out / "gpu.csv", stage, "")
    try:
        module = importlib.import_module(f"paper_scale.{stage}")
        device, table.device = device_and_name(toy=toy)
        module.run(module.TOY if toy else module.FULL, device, table, out)
    except Exception as error:
        traceback.print_exc()
        table.add(FAILED, f"{type(error).__name__}: {error}")
        return REPORTED
    return 0


def device_and_name(*, toy: bool):
    """The CPU, or the first card, with its name."""
    import torch

    if toy:
        return torch.device("cpu"), "CPU"
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} sees no CUDA device; install a CUDA build, or try `make gpu GPU_FLAGS=--toy`")
    return torch.device("cuda:0"), torch.cuda.get_device_name(0)


def _environment() -> dict[str, str]:
    """Imports as in this process, no bars between the lines, no questions to the hub."""
    path = os.pathsep.join([*(str(Path(__file__).resolve().parents[up]) for up in (2, 1)), os.environ.get("PYTHONPATH", "")])
    quiet = {"DIFFTUNING_PROGRESS": "off", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return os.environ | quiet | {"PYTHONPATH": path.strip(os.pathsep)}


if __name__ == "__main__":
    raise SystemExit(main())
