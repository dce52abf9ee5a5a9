"""One training loop for everything: pre-training, fine-tuning, adapters, ControlNet.

The loop owns the optimizer, the moving average, checkpoints and devices (through
accelerate); what is trained on is the `Objective`'s business.  A run interrupted at any
moment continues to the same bits, as every step's draws depend on its number alone.
"""

from __future__ import annotations

import copy
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Sequence

import torch
from torch import Tensor, nn

from ..config import TrainingConfig
from ..support import processes
from ..support.files import require_space
from ..support.progress import progress_bar
from ..support.surroundings import undisturbed
from . import checkpoints
from .history import history_table, parse_history
from .interruption import interruptible
from .objective import Objective
from .run import Run

if TYPE_CHECKING:
    import pandas


class MovingAverage:
    """Exponential moving average of a module's trainable parameters."""

    def __init__(self, module: nn.Module, decay: float, warmup: bool):
        self.decay, self.warmup = decay, warmup
        self.tensors = {name: p.detach().clone() for name, p in checkpoints.trainable(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Move towards the parameters; `updates` counts the updates before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates)) if self.warmup else self.decay
        averages = list(self.tensors.values())
        torch._foreach_lerp_(averages, list(checkpoints.trainable(module).values()), 1 - decay)


@dataclass
class TrainingState:
    """What callbacks see after each step; `ema_model()` is a copy to sample from or evaluate.

    A callback may end the run (`stop`), choose the weights that it results in (`chosen`, by name, in place of the last
    average), and note tensors for later steps; all three are part of the checkpoints.
    """

    module: nn.Module
    average: MovingAverage
    step: int = 0  # steps done
    losses: dict[str, float] = field(default_factory=dict)
    stop: bool = False
    chosen: dict[str, Tensor] | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)

    def ema_model(self) -> nn.Module:
        """A copy of the model with the averaged weights, in eval mode."""
        return self._model(self.average.tensors)

    def result_model(self) -> nn.Module:
        """A copy with the weights that a callback chose, else with the averaged ones, in eval mode."""
        return self._model(self.average.tensors if self.chosen is None else self.chosen)

    def _model(self, tensors: dict[str, Tensor]) -> nn.Module:
        frozen = {}
        if getattr(self.module, "adapter", None) is None:  # one that merge_adapter takes off is written into all weights
            frozen = {id(weight): weight for weight in self.module.parameters() if not weight.requires_grad}
        module = copy.deepcopy(self.module, frozen)  # weights that never change are shared: a copy would only take memory
        checkpoints.copy_into(checkpoints.trainable(module), tensors)
        return module.eval()


Callback = Callable[[TrainingState], None]


def require_list(callbacks: object) -> None:
    """TypeError where a callback is passed by itself, or something in the list is none."""
    if callable(callbacks):
        raise TypeError(f"callbacks must be a list, not {type(callbacks).__name__}: pass [{type(callbacks).__name__}(...)]")
    for each in callbacks:
        if isinstance(each, type) or not callable(each):
            shown = f"the class {each.__name__}: pass {each.__name__}(...)" if isinstance(each, type) else f"{each!r}: pass a function"
            raise TypeError(f"callbacks are called after each step, got {shown}")


@undisturbed
def train(module: nn.Module, objective: Objective, config: TrainingConfig, *, run: Run | None, device: torch.device,
          callbacks: Sequence[Callback] = (), progress: bool = True) -> tuple[TrainingState, pandas.DataFrame]:  # fmt: skip
    """Train `module`(x_t, t, labels, **conditions) in place, from the newest checkpoint of `run` where there is one.

    Without a run (None) nothing is kept.  Where the disk is too full for its checkpoints, nothing is written.

    Returns the final state and the history: step, the objective's terms by name, seconds.  Callbacks run
    after each step, before it is saved, in the main process.  SIGINT and SIGTERM end the step
    in hand, save a checkpoint and raise KeyboardInterrupt; a second one does not wait.
    """
    _require_runnable(objective, config, device)
    if run is not None:
        require_space(run.folder, _checkpoint_bytes(run, module, config, chosen=bool(callbacks)))
    with processes.as_launched():
        accelerator = _accelerator(config, device)
        module.to(accelerator.device).train()
        optimizer = torch.optim.AdamW(
            checkpoints.trainable(module).values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        wrapped, optimizer = accelerator.prepare(module, optimizer)
    # accelerate patches autocast into `module` itself, where copies of it would keep it; _step has its own.
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    state = TrainingState(module, MovingAverage(module, config.ema_decay, config.ema_warmup))
    history = [] if run is None else _resume(run, state, optimizer, accelerator.scaler)
    writes = run is not None and accelerator.is_main_process
    names = list(objective.weights)
    columns = ["step", *(f"{name}_loss" for name in names), "seconds"]
    with interruptible() as interrupted:
        bar = progress_bar(
            range(state.step, config.steps), "training", initial=state.step, total=config.steps,
            shown=progress and accelerator.is_main_process,
        )  # fmt: skip
        for step in bar:
            if state.stop:
                break
            began = time.perf_counter()
            state.losses = _step(accelerator, wrapped, optimizer, objective, config, step)
            state.average.update(module, step)
            state.step = step + 1
            history.append([step, *(state.losses[name] for name in names), time.perf_counter() - began])
            bar.set_postfix({name: f"{state.losses[name]:.3f}" for name in names}, refresh=False)
            for callback in callbacks if accelerator.is_main_process else ():
                callback(state)
            ended, state.stop = _in_any_process(accelerator, interrupted()), _in_any_process(accelerator, state.stop)
            last = ended or state.stop or state.step == config.steps
            if writes and (last or state.step % config.checkpoint_every == 0):
                _save(run, state, optimizer, accelerator.scaler, history_table(history, columns), config.keep_checkpoints)
            if ended:
                again = "" if run is None else "; run the same call again to go on"
                raise KeyboardInterrupt(f"stopped after step {state.step}{again}")
    accelerator.wait_for_everyone()
    if run is not None and not accelerator.is_main_process:  # callbacks have not run here
        _resume(run, state, optimizer, accelerator.scaler)
    module.eval()
    return state, history_table(history, columns)


def _step(accelerator, wrapped: nn.Module, optimizer, objective: Objective, config: TrainingConfig, step: int) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate_at(step)
    sums: dict[str, Tensor] = {}
    parts = config.accumulation * accelerator.num_processes
    for number in range(config.accumulation):
        last = number == config.accumulation - 1
        part = accelerator.process_index * config.accumulation + number
        with nullcontext() if last else accelerator.no_sync(wrapped), accelerator.autocast():
            losses = objective.losses(wrapped, step, accelerator.device, part=part, parts=parts)
            # Processes average their gradients; each part already divides by the global count.
            accelerator.backward(objective.total(losses) * accelerator.num_processes)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach()
    if config.clip_norm is not None:
        accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums, reduction="sum")
    values = {name: float(loss) for name, loss in sums.items()}
    if not all(abs(value) < float("inf") for value in values.values()):
        raise FloatingPointError(f"the loss became {values} at step {step}; lower the learning rate or set clip_norm=1, in another folder")
    return values


def _require_runnable(objective: Objective, config: TrainingConfig, device: torch.device) -> None:
    parts, pictures = config.accumulation * processes.count(), max(stream.batch for stream in objective.streams)
    if parts > pictures:
        raise ValueError(
            f"a batch with {pictures} pictures of a kind cannot be cut into {parts} parts (accumulation {config.accumulation} "
            f"x {processes.count()} processes): lower accumulation or raise batch_size"
        )
    if config.mixed_precision == "fp16" and device.type == "cpu":
        raise ValueError("mixed_precision='fp16' needs a GPU: use 'bf16' or 'no' on the CPU")


def _accelerator(config: TrainingConfig, device: torch.device):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if PartialState._shared_state and PartialState().num_processes == 1:
        # accelerate remembers the first call's device and precision for the whole process, which a
        # notebook that trains twice must not inherit.
        AcceleratorState._reset_state(reset_partial_state=True)
    if processes.count() > 1:
        processes.join(device)  # each takes its own GPU
    elif device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=config.mixed_precision)
    accelerator.gradient_accumulation_steps = 1  # `_step` cuts the batch itself; a launcher's environment may say otherwise
    return accelerator


def _in_any_process(accelerator, flag: bool) -> bool:
    """Processes stop after the same step or not at all: one that stopped alone would leave the others waiting."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), reduction="sum"))


def _resume(run: Run, state: TrainingState, optimizer, scaler) -> list[list[float]]:
    found = run.load()
    if found is None:
        return []
    state.step, tensors, history = found
    state.chosen, state.notes, state.stop = tensors.get("chosen"), tensors.get("notes", {}), "stop" in tensors
    checkpoints.copy_into(checkpoints.trainable(state.module), tensors["model"])
    checkpoints.copy_into(state.average.tensors, tensors["ema"])
    checkpoints.restore_optimizer(optimizer, tensors["optimizer"])
    if scaler is not None:
        scaler.load_state_dict({name: tensor.item() for name, tensor in tensors["scaler"].items()})
    return parse_history(history).values.tolist()


def _save(run: Run, state: TrainingState, optimizer, scaler, history: pandas.DataFrame, keep: int) -> None:
    tensors = {
        "model": {name: p.detach() for name, p in checkpoints.trainable(state.module).items()},
        "ema": state.average.tensors,
        "optimizer": checkpoints.optimizer_tensors(optimizer),
    }
    if state.chosen is not None:
        tensors["chosen"] = state.chosen
    if state.notes:
        tensors["notes"] = state.notes
    if state.stop:
        tensors["stop"] = {"step": torch.tensor(state.step)}
    if scaler is not None:  # fp16
        tensors["scaler"] = {name: torch.tensor(value) for name, value in scaler.state_dict().items()}
    run.save(state.step, tensors, history.to_csv(index=False, lineterminator="\n"), keep=keep)


def _checkpoint_bytes(run: Run, module: nn.Module, config: TrainingConfig, *, chosen: bool) -> int:
    """What the checkpoints of the steps that are left will take, beyond those that are there; `chosen`: callbacks may choose weights."""
    done, every = run.steps_done, config.checkpoint_every
    if done >= config.steps:
        return 0
    weights = sum(parameter.nbytes for parameter in checkpoints.trainable(module).values())
    writes = -(-config.steps // every) - done // every
    return (4 + chosen) * weights * min(writes, run.checkpoints_to_come(config.keep_checkpoints))  # weights, average, AdamW's two moments
