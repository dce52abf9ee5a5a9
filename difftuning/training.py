"""One training loop for everything: pre-training, fine-tuning, adapters, ControlNet.

The loop owns the optimizer, the moving average, checkpoints and devices (through
accelerate); what is trained on is the `Objective`'s business.  A run interrupted at any
moment continues to the same bits, as every step's draws depend on its number alone.
"""

from __future__ import annotations

import copy
import csv
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Literal, Sequence

import torch
from torch import Tensor, nn

from . import checkpoints, processes
from .files import require_space
from .objective import Objective
from .progress import progress_bar
from .settings import plain

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train, whatever is trained; the defaults are the published Diff-Tuning ones."""

    steps: int
    batch_size: int = 32  # global: over all processes and accumulation parts
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 0  # the learning rate rises linearly over the first ones
    cooldown_steps: int = 0  # and falls linearly over the last ones
    ema_decay: float = 0.9999
    ema_warmup: bool = True  # min(decay, (1+n)/(10+n)): short runs would return the first weights otherwise
    clip_norm: float | None = None
    accumulation: int = 1  # parts the global batch is cut into, to save memory
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self):
        for each in fields(self):
            object.__setattr__(self, each.name, plain(each.name, each.type, getattr(self, each.name)))
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "cooldown_steps"):
            require_finite(name, getattr(self, name))
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be 'no', 'bf16' or 'fp16', got {self.mixed_precision!r}")

    @property
    def may_differ(self) -> tuple[str, ...]:
        """Fields that a resumed run may have otherwise; a cool-down is planned towards its last step."""
        return ("checkpoint_every", "keep_checkpoints", *(["steps"] if self.cooldown_steps == 0 else []))

    def learning_rate_at(self, step: int) -> float:
        rise = (step + 1) / (self.warmup_steps + 1)
        fall = (self.steps - step) / (self.cooldown_steps + 1)
        return self.learning_rate * min(1.0, rise, fall)


def require_finite(name: str, value: float) -> None:
    """ValueError unless 0 <= value < infinity."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


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
    """What callbacks see after each step; `ema_model()` is a copy to sample from or evaluate."""

    module: nn.Module
    average: MovingAverage
    step: int = 0  # steps done
    losses: dict[str, float] = field(default_factory=dict)

    def ema_model(self) -> nn.Module:
        module = copy.deepcopy(self.module)
        checkpoints.copy_into(checkpoints.trainable(module), self.average.tensors)
        return module.eval()


Callback = Callable[[TrainingState], None]


def train(module: nn.Module, objective: Objective, config: TrainingConfig, *, folder: Path, device: torch.device,
          record: dict | None = None, resume: bool = True, callbacks: Sequence[Callback] = (),
          progress: bool = True) -> tuple[TrainingState, pandas.DataFrame]:  # fmt: skip
    """Train `module`(x_t, t, labels) in place, from the newest checkpoint in `folder` where there is one.

    `record`, which describes the run, is kept in `folder`: with it, the folder of another run is
    refused.  Where the disk is too full, nothing is written.

    Returns the final state and the history: step, one loss per stream, seconds.  Callbacks run
    after each step, before it is saved, in the main process.  SIGINT and SIGTERM end the step
    in hand, save a checkpoint and raise KeyboardInterrupt; a second one does not wait.
    """
    if callable(callbacks) or not all(callable(callback) for callback in callbacks):
        raise TypeError(f"callbacks is a sequence of functions of the training state, got {callbacks!r}")
    _require_runnable(objective, config, device)
    require_space(folder, _checkpoint_bytes(folder, module, config))
    if record is not None:
        claim = partial(checkpoints.open_run, folder, record, resume=resume, may_differ=config.may_differ)
        processes.in_main_process(claim, device)
    accelerator = _accelerator(config, device)
    module.to(accelerator.device).train()
    optimizer = torch.optim.AdamW(
        checkpoints.trainable(module).values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    wrapped, optimizer = accelerator.prepare(module, optimizer)
    # accelerate patches autocast into `module` itself, where copies of it would keep it; _step has its own.
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    state = TrainingState(module, MovingAverage(module, config.ema_decay, config.ema_warmup))
    history = _resume(folder, state, optimizer, accelerator.scaler)
    names = [stream.name for stream in objective.streams]
    columns = ["step", *(f"{name}_loss" for name in names), "seconds"]
    with _interruptible() as interrupted:
        bar = progress_bar(
            range(state.step, config.steps), "training", initial=state.step, total=config.steps,
            shown=progress and accelerator.is_main_process,
        )  # fmt: skip
        for step in bar:
            began = time.perf_counter()
            state.losses = _step(accelerator, wrapped, optimizer, objective, config, step)
            state.average.update(module, step)
            state.step = step + 1
            history.append([step, *(state.losses[name] for name in names), time.perf_counter() - began])
            bar.set_postfix({name: f"{state.losses[name]:.3f}" for name in names}, refresh=False)
            for callback in callbacks if accelerator.is_main_process else ():
                callback(state)
            stop = _in_any_process(accelerator, interrupted())
            if accelerator.is_main_process and (stop or state.step % config.checkpoint_every == 0 or state.step == config.steps):
                _save(folder, state, optimizer, accelerator.scaler, _table(history, columns), config.keep_checkpoints)
            if stop:
                raise KeyboardInterrupt(f"stopped after step {state.step}; run the same call again to go on")
    accelerator.wait_for_everyone()
    module.eval()
    return state, _table(history, columns)


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
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if processes.count() > 1:
        processes.join(device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=config.mixed_precision)
    accelerator.gradient_accumulation_steps = 1  # `_step` cuts the batch itself; the environment may say otherwise
    return accelerator


def _in_any_process(accelerator, flag: bool) -> bool:
    """Processes stop after the same step or not at all: one that stopped alone would leave the others waiting."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), reduction="sum"))


def _resume(folder: Path, state: TrainingState, optimizer, scaler) -> list[list[float]]:
    found = checkpoints.load_checkpoint(folder)
    if found is None:
        return []
    state.step, tensors, history = found
    checkpoints.copy_into(checkpoints.trainable(state.module), tensors["model"])
    checkpoints.copy_into(state.average.tensors, tensors["ema"])
    checkpoints.restore_optimizer(optimizer, tensors["optimizer"])
    if scaler is not None:
        scaler.load_state_dict({name: tensor.item() for name, tensor in tensors["scaler"].items()})
    return parse_history(history).values.tolist()


def _save(folder: Path, state: TrainingState, optimizer, scaler, history: pandas.DataFrame, keep: int) -> None:
    tensors = {
        "model": {name: p.detach() for name, p in checkpoints.trainable(state.module).items()},
        "ema": state.average.tensors,
        "optimizer": checkpoints.optimizer_tensors(optimizer),
    }
    if scaler is not None:  # fp16
        tensors["scaler"] = {name: torch.tensor(value) for name, value in scaler.state_dict().items()}
    checkpoints.save_checkpoint(folder, state.step, tensors, history.to_csv(index=False), keep=keep)


def _checkpoint_bytes(folder: Path, module: nn.Module, config: TrainingConfig) -> int:
    """What the checkpoints of the steps that are left will take, beyond those that are there."""
    if checkpoints.steps_done(folder) >= config.steps:
        return 0
    weights = sum(parameter.nbytes for parameter in checkpoints.trainable(module).values())
    more = config.keep_checkpoints + 1 - len(checkpoints.list_checkpoints(folder))  # one more than is kept stands while writing
    return 4 * weights * max(more, 1)  # weights, their average and AdamW's two moments


def parse_history(text: str) -> pandas.DataFrame:
    """A history from its CSV text, to the last bit, which not every pandas' own reader keeps."""
    columns, *rows = csv.reader(text.splitlines())
    return _table([[float(value) for value in row] for row in rows], columns)


def _table(history: list[list[float]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(history, columns=columns, dtype="float64").astype({"step": "int64"})


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM only raises a flag: a half-done step must not reach a checkpoint."""
    raised = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield raised.is_set  # signals reach the main thread alone
        return
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore(*_) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(*_) -> None:
        raised.set()
        restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield raised.is_set
    finally:
        restore()
