"""Checkpoints that survive SIGKILL: written whole or not at all, verified before use, never pickled."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from ..support.files import (
    DamagedFileError,
    atomic_path,
    checksum_list,
    load_tensors,
    read_json,
    read_text,
    require_space,
    save_tensors,
    sha256,
    verify,
    write_json,
    write_text,
)
from ..support.names import in_order

STATE = "state.json"
Checkpoint = tuple[int, dict[str, dict[str, Tensor]], str]  # step, tensors by file and name, history


def save_checkpoint(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], history: str, *, keep: int) -> None:
    """Write checkpoints/step-N with one safetensors file per entry of `tensors`; keep the newest `keep`."""
    require_space(folder, sum(tensor.nbytes for group in tensors.values() for tensor in group.values()))
    with atomic_path(folder / "checkpoints" / f"step-{step:08d}") as scratch:
        for name, group in tensors.items():
            save_tensors(scratch / f"{name}.safetensors", group)
        write_text(scratch / "history.csv", history)
        files = {path.name: sha256(path) for path in in_order(scratch.iterdir())}
        write_json(scratch / STATE, {"step": step, "files": files}, sealed=True)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def list_checkpoints(folder: Path) -> list[Path]:
    """Oldest first; whatever else lies in checkpoints/ is left alone."""
    found = [path for path in (folder / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=_step)


def steps_done(folder: Path) -> int:
    """The step of the newest checkpoint, by its name; 0 where there is none."""
    return max((_step(path) for path in list_checkpoints(folder)), default=0)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Step, tensors and history of the newest checkpoint, every file verified; None where there is none."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    fix = f"delete {newest} to go on from the one before" if len(checkpoints) > 1 else f"delete {newest} to start again"
    try:
        state = read_json(newest / STATE)
        files = checksum_list(newest / STATE, state["files"])
        altered = [STATE] if state["step"] != _step(newest) else verify(newest, files)
    except (DamagedFileError, OSError, KeyError):
        altered = [STATE]
    if altered:
        raise DamagedFileError(f"{newest / altered[0]} is missing, cut off or altered; {fix}")
    tensors = {Path(name).stem: load_tensors(newest / name) for name in files if name.endswith(".safetensors")}
    return state["step"], tensors, read_text(newest / "history.csv")


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
    """Overwrite tensors or parameters by name; ValueError, before any is, where names or shapes differ."""
    given, wanted = ({name: tuple(tensor.shape) for name, tensor in side.items()} for side in (tensors, own))
    if unlike := sorted(name for name in {*given, *wanted} if given.get(name) != wanted.get(name)):
        raise ValueError(f"the weights do not fit: {unlike[0]!r} is {given.get(unlike[0])}, not {wanted.get(unlike[0])}")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])
