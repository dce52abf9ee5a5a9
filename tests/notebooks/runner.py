"""Run a notebook as a reader would, and fail where papermill alone would not.

papermill only warns about a parameter that the notebook does not have, calls a run that
`sys.exit()` cut short a success, and does not look into widgets, where an exception of
`interact` hides.  `run` fails on each of these, and when a notebook takes longer than it may.

    python -m tests.notebooks.runner notebooks/00_quickstart.ipynb -o runs/quickstart -p live_steps 50
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from nbformat import NotebookNode

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
KERNEL = "python3"  # the only name that every installation has


class NotebookFailure(AssertionError):
    """A notebook did not run as it should; the message names the notebook and what happened."""


def run(path: Path, output: Path, *, seconds: float = 600, progress: bool = False, **parameters: Any) -> NotebookNode:
    """Execute a notebook in its own folder with these parameters; the executed copy goes to `output`, in any case.

    `seconds` is for the whole run.  The kernel is this interpreter's and imports the same difftuning.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    path, output = Path(path).resolve(), Path(output).resolve()
    if output == path:
        raise ValueError(f"the executed notebook would overwrite {path}; choose another place")
    check_kernel(path)
    check_parameters(path, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    try:
        with _same_package(), _quiet():
            notebook = papermill.execute_notebook(
                path, output, parameters, cwd=path.parent, kernel_name=KERNEL, start_timeout=60, progress_bar=progress,
                timeout_func=lambda cell: max(1.0, deadline - time.monotonic()),
                extra_arguments=["--log-level=CRITICAL"],  # ipykernel warns about TCP, and about being stopped
            )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise NotebookFailure(f"{path.name}: cell {error.cell_index} raised {error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise NotebookFailure(f"{path.name} did not end within {seconds:g} s") from error
    except DeadKernelError as error:
        raise NotebookFailure(f"{path.name}: the kernel died") from error
    problems = hidden_failures(notebook)
    if problems:
        raise NotebookFailure(f"{path.name}: {'; '.join(problems)}")
    return notebook


def check_kernel(path: Path) -> None:
    """The notebook must name the kernel that everyone has, and that name must mean this interpreter."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager

    named = nbformat.read(path, as_version=4).metadata.get("kernelspec", {}).get("name")
    if named != KERNEL:
        raise NotebookFailure(f"{path.name} names the kernel {named!r}; store {KERNEL!r}")
    program = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    # a bare "python" is replaced by this interpreter when the kernel starts
    if os.path.isabs(program) and Path(program).parent != Path(sys.executable).parent:
        raise NotebookFailure(f"the kernel {KERNEL!r} is {program}, not this environment's: remove that kernel specification")


def check_parameters(path: Path, parameters: dict[str, Any]) -> None:
    """Every parameter exists in the notebook, with a default of the same type."""
    import papermill

    with _quiet():
        known = papermill.inspect_notebook(str(path))
    unknown = set(parameters) - set(known)
    if unknown:
        raise NotebookFailure(f"{path.name} has no parameter {sorted(unknown)[0]!r}, only {', '.join(known) or 'none'}")
    for name, value in parameters.items():
        default = ast.literal_eval(known[name]["default"])
        alike = type(value) is type(default) or (isinstance(default, float) and type(value) is int) or None in (value, default)
        if not alike:
            raise NotebookFailure(f"{path.name}: {name} is {default!r} by default, so {value!r} is of the wrong type")


def hidden_failures(notebook: NotebookNode) -> list[str]:
    """What went wrong in an executed notebook without papermill noticing."""
    problems = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if not cell.execution_count:
            problems.append(f"cell {index} was not run")
        for output in cell.outputs:
            if output.output_type == "error":  # SystemExit, which papermill takes for a good end
                problems.append(f"cell {index} raised {output.ename}")
            elif output.output_type == "stream" and "Traceback (most recent call last)" in output.text:
                problems.append(f"cell {index} printed a traceback (a thread, a task or another process failed)")
    models = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values()
    for model in models:
        for output in model.get("state", {}).get("outputs", []):
            if output.get("output_type") == "error":
                problems.append(f"a widget's callback raised {output.get('ename')}: {output.get('evalue')}")
    return problems


@contextmanager
def _same_package() -> Iterator[None]:
    """Let the kernel, which starts in another folder, find the difftuning that this process finds."""
    root, before = str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without papermill's and its kin's warnings about each other; what matters to us is checked above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sys.platform == "win32":
            asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Run notebooks strictly.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the executed copies")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--seconds", type=float, default=1800, help="for each notebook (default: 1800)")
    options = parser.parse_args()
    os.environ.setdefault("DIFFTUNING_PROGRESS", "off")  # bars of a notebook nobody is looking at
    for path in options.notebooks:
        copy, begun = options.output / path.name, time.monotonic()
        print(f"Running {path}; its executed copy: {copy}", flush=True)
        try:
            parameters = {name: _value(text) for name, text in options.parameter}
            run(path, copy, seconds=options.seconds, progress=True, **parameters)
        except (NotebookFailure, FileNotFoundError) as error:
            print(f"FAILED {error}", file=sys.stderr)
            return 1
        print(f"Done in {time.monotonic() - begun:.0f} s. Results:")
        for result in sorted(p for p in options.output.rglob("*") if p.suffix in (".ipynb", ".png") or p.name == "scores.csv"):
            print(f"  {result}")
    return 0


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    sys.exit(main())
