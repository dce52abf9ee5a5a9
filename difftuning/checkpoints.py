"""Checkpoints that survive SIGKILL: written whole or not at all, verified before use, never pickled."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from .files import DamagedFileError, atomic_path, load_tensors, read_json, require_space, save_tensors, sha256, write_json

STATE = "state.json"
RECORD = "run.json"


def open_run(folder: Path, record: dict, *, resume: bool, may_differ: tuple[str, ...] = ()) -> None:
    """Claim `folder` for a run described by `record`, after `check_run`."""
    check_run(folder, record, resume=resume, may_differ=may_differ)
    write_json(folder / RECORD, record)


def check_run(folder: Path, record: dict, *, resume: bool, may_differ: tuple[str, ...] = ()) -> None:
    """Raise where `folder` holds something else, or a run with another configuration; nothing is written.

    The fields of `may_differ` are allowed to change.
    """
    path = folder / RECORD
    if path.is_file():
        if not resume:
            raise FileExistsError(f"{folder} already holds a run: resume=True continues it, or choose another folder")
        _require_same(folder, read_json(path), record, may_differ)
        done = steps_done(folder)
        if done > record.get("steps", done):
            raise ValueError(f"{folder} holds {done} steps already, more than steps={record['steps']}; choose another folder")
    else:
        require_unused(folder)


def require_unused(folder: Path) -> None:
    """Raise where `folder` holds anything but hidden files (of a desktop, or of a write that was killed)."""
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty and holds something else; choose another folder")


def _require_same(folder: Path, stored: dict, record: dict, may_differ: tuple[str, ...]) -> None:
    fields = [name for name in sorted(set(stored) | set(record)) if name not in may_differ]
    different = [f"{name} was {stored.get(name)!r}, is {record.get(name)!r}" for name in fields if stored.get(name) != record.get(name)]
    if different:
        raise ValueError(f"{folder} holds a run with another configuration ({'; '.join(different)}); choose another folder")


def save_checkpoint(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], history: str, *, keep: int) -> None:
    """Write checkpoints/step-N with one safetensors file per entry of `tensors`; keep the newest `keep`."""
    for scratch in (folder / "checkpoints").glob(".step-*"):  # left by a process that was killed while writing
        shutil.rmtree(scratch)
    require_space(folder, sum(tensor.nbytes for group in tensors.values() for tensor in group.values()))
    with atomic_path(folder / "checkpoints" / f"step-{step:08d}") as scratch:
        for name, group in tensors.items():
            save_tensors(scratch / f"{name}.safetensors", group)
        (scratch / "history.csv").write_text(history)
        files = {path.name: sha256(path) for path in sorted(scratch.iterdir())}
        write_json(scratch / STATE, {"step": step, "files": files})
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def list_checkpoints(folder: Path) -> list[Path]:
    """Oldest first; whatever else lies in checkpoints/ is left alone."""
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdecimal())


def steps_done(folder: Path) -> int:
    """The step of the newest checkpoint, by its name; 0 where there is none."""
    return max((_step(path) for path in list_checkpoints(folder)), default=0)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def load_checkpoint(folder: Path) -> tuple[int, dict[str, dict[str, Tensor]], str] | None:
    """Step, tensors and history of the newest checkpoint, every file verified; None where there is none."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    fix = f"delete {newest} to go on from the one before" if len(checkpoints) > 1 else f"delete {newest} to start again"
    try:
        state = read_json(newest / STATE)
        files = dict(state["files"])
        if state["step"] != _step(newest):
            raise ValueError(f"it says step {state['step']}")
    except (DamagedFileError, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{newest / STATE} is missing, cut off or altered ({error}); {fix}") from error
    for name, digest in files.items():
        path = newest / name
        if not path.is_file() or sha256(path) != digest:
            raise DamagedFileError(f"{path} is missing, cut off or altered; {fix}")
    tensors = {Path(name).stem: load_tensors(newest / name) for name in files if name.endswith(".safetensors")}
    return state["step"], tensors, (newest / "history.csv").read_text()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors (AdamW: step and both moments of every parameter)."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` took from one over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name; tied ones once."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def copy_into(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Overwrite tensors or parameters by name; names and shapes must match exactly."""
    if set(own) != set(tensors):
        raise ValueError(f"the weights do not fit: {sorted(set(own) ^ set(tensors))[0]!r} is on one side only")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(f"the weights do not fit: {name!r} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(tensors[name])
