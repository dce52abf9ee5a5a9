"""The exercises of lesson 01: the two-term loss, held against `fine_tune` step by step, and steeper distributions of t.

The reader's loss trains the same model on the same batches as a real run of `fine_tune`.  Where a loss departs from that
run's history, what the model was asked tells which part is off: the timesteps, the labels, the noise, or what was made of
the answer.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, replace
from typing import Callable, NamedTuple

import torch
from torch import Tensor, nn

from ...config import DiffTuningConfig
from ...data.tasks import Task, load_task
from ...diffusion.losses import eps_loss, variational_bound
from ...diffusion.timestep_weights import timestep_distribution
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...support.world import data_folder
from ...training.fine_tune import fine_tune
from ...training.label_rows import add_rows, choose_rows
from ...training.memory_bank import MemoryBank
from ...training.objective import Draw, Stream
from ...training.streams import split_batch, training_streams
from ..exercises import Grade, compare, exercise, written
from .batches import Batch, library_batches

STEPS, PICTURES = 4, 100
CONFIG = DiffTuningConfig(steps=STEPS, learning_rate=1e-3, seed=3)
NEAR = 1e-3  # of a loss: another order of sums grows from step to step, and a wrong term is far beyond
SETS = {"target": "target pictures", "bank": "bank pictures"}
STEEPER = "look at the figure of the section 'Second change': at power 2 its straight lines bend, and rise to 3 in place of 2"
CURVES = "look at the figure of the section 'Second change': the target's line rises, the bank's falls"
SLIPS = "look at the figure of the section 'Would you notice a slip?'"
NOISED = "look at the first figure: what is shown to the model is noised by the noise that it must find"


@dataclass(frozen=True)
class Parts:
    """What a run of `fine_tune` is made of."""

    pretrained: Pretrained
    task: Task
    bank: MemoryBank
    rows: Tensor
    streams: dict[str, Stream]

    def untrained(self) -> nn.Module:
        """A copy of the denoiser to train, float32, with the task's label rows as `fine_tune` starts them."""
        denoiser = self.pretrained.copy_denoiser().float().train()
        add_rows(denoiser, self.pretrained, self.rows, CONFIG.seed)
        return denoiser


@functools.cache
def parts() -> Parts:
    """What the exercises train on, loaded once."""
    pretrained, task = load_pretrained("tiny"), load_task("digits").subset(range(PICTURES))
    bank = MemoryBank.load(data_folder() / "bank")
    rows = choose_rows(pretrained, len(task.class_names))
    streams = training_streams(pretrained, task, bank, CONFIG, rows, split_batch(CONFIG, bank))
    return Parts(pretrained, task, bank, rows, {stream.name: stream for stream in streams})


@functools.cache
def library_losses() -> dict[str, list[float]]:
    """What a real run of `fine_tune` reports: each stream's loss at each step."""
    run = parts()
    with tempfile.TemporaryDirectory() as folder:
        history = fine_tune(run.pretrained, run.task, run.bank, CONFIG, folder=folder, progress=False).history
    return {name: history[f"{name}_loss"].tolist() for name in run.streams}


class Asked(NamedTuple):
    """What the model was asked, and its answer; a row for each picture."""

    x_t: Tensor
    t: Tensor
    labels: Tensor
    output: Tensor


class Listening(nn.Module):
    """A denoiser that remembers what it was asked."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser, self.calls = denoiser, []

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """What `denoiser` answers, after writing it down with the question."""
        x_t, t, labels = x_t.cpu(), t.cpu(), labels.cpu()
        output = self.denoiser(x_t, t, labels)
        self.calls.append(Asked(x_t.detach(), t, labels, output.detach()))
        return output

    def asked(self) -> dict[str, Asked] | None:
        """By set, whichever came first, in one call or two; None where it was anything else."""
        sizes = [len(call.t) for call in self.calls]
        target, bank = split_batch(CONFIG, parts().bank)
        if sorted(sizes) == sorted([target, bank]):
            return dict(zip(("target", "bank") if sizes[0] == target else ("bank", "target"), self.calls))
        if sizes != [target + bank]:
            return None
        return {
            name: Asked(*(rows[part] for rows in self.calls[0]))
            for name, part in (("target", slice(target)), ("bank", slice(target, None)))
        }


@exercise("two-term loss")
def two_term_loss(answer: Callable) -> Grade:
    """answer(denoiser, target, bank) -> the loss of the target batch, that of the bank's batch, their weighted sum."""
    run = parts()
    denoiser = run.untrained()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=CONFIG.learning_rate, weight_decay=0)
    largest = 0.0
    for step, (target, bank) in enumerate(library_batches(run.pretrained, run.task, run.bank, CONFIG)):
        listening = Listening(denoiser)
        given = answer(listening, target, bank)
        written(given)
        if not isinstance(given, (tuple, list)) or len(given) != 3:
            return Grade(False, "return three numbers: the target loss, the bank loss, and their weighted sum")
        written(*given)
        found = {name: _number(loss) for name, loss in zip(SETS, given)}
        asked = listening.asked()
        for name, batch in zip(SETS, (target, bank)):
            expected = library_losses()[name][step]
            gap = abs(found[name] - expected) / expected
            problem = asked and _wrong_question(run, name, step, asked[name], batch)  # labels first matter little: the loss would not tell
            if not problem and not gap <= NEAR:
                problem = _wrong_loss(run, name, asked, found[name]) if step == 0 else LATER
            if problem:
                return Grade(False, f"{problem} (step {step}: {name} loss {found[name]:.4g}, dt.fine_tune has {expected:.4g})")
            largest = max(largest, gap)
        if problem := _wrong_sum(*given):
            return Grade(False, f"both losses are right; {problem}")
        given[2].backward()
        optimizer.step()
        optimizer.zero_grad()
    return Grade(True, f"{STEPS} steps beside dt.fine_tune: the losses differ by {largest:.0e} of their value at most")


LATER = f"the losses agree at first and part later, so the gradient differs: is something detached, or computed without it? {SLIPS}"


def _wrong_sum(target: Tensor, bank: Tensor, total: Tensor) -> str | None:
    """What is off about the weighted sum of two losses that are right."""
    if not isinstance(total, Tensor) or not total.requires_grad:
        return "their sum has no gradient: add up tensors, not floats"
    weight, sizes = CONFIG.bank_weight, split_batch(CONFIG, parts().bank)
    target, bank, total = _number(target), _number(bank), _number(total)
    value = (total - target) / bank
    if abs(value - weight) <= NEAR:
        return None
    whole = (sizes[0] * target + sizes[1] * bank) / sum(sizes)
    if abs(value - 1) <= NEAR:
        return f"in their sum the bank counts in full: its weight, {weight}, is missing; {SLIPS}"
    if abs(value) <= NEAR:
        return f"the bank's term is missing in their sum; {SLIPS}"
    if abs(total - whole) <= NEAR * whole:
        return f"their sum is the mean over all {sum(sizes)} pictures: take each set's mean first, then weigh the bank's with {weight}"
    return f"in their sum the bank has the weight {value:.3g}, it should be {weight}; {SLIPS}"


def _wrong_question(run: Parts, name: str, step: int, asked: Asked, batch: Batch) -> str | None:
    """The first thing about what the model was asked that is not as in the library's step."""
    draw = run.streams[name].draw(CONFIG.seed, step)
    return (
        _wrong_timesteps(run, name, asked.t, step)
        or _wrong_labels(run, name, asked.labels, draw, batch.labels)
        or _wrong_noise(run, draw, asked)
    )


def _wrong_timesteps(run: Parts, name: str, t: Tensor, step: int) -> str | None:
    """Which other way of drawing gives the timesteps that were asked."""
    stream = run.streams[name]
    if torch.equal(t, stream.draw(CONFIG.seed, step).t):
        return None
    (other,) = (each for each in run.streams if each != name)
    flat, direction = torch.ones_like(stream.timestep_distribution), {"target": "rising", "bank": "falling"}
    mean = float(t.double().mean())
    if torch.equal(t, _drawn(run, name, step, run.streams[other].timestep_distribution)):
        return f"the t of the {SETS[name]} come from the {direction[other]} distribution: the two are swapped; {CURVES}"
    if torch.equal(t, _drawn(run, name, step, flat)):
        return f"the t of the {SETS[name]} are picked evenly: pick them from the {direction[name]} distribution; {CURVES}"
    return (
        f"the t of the {SETS[name]} are not the library's (their mean is {mean:.0f}): "
        f"pick_t_and_noise(batch, {direction[name]}) must be the first to use the batch's generator; {CURVES}"
    )


def _drawn(run: Parts, name: str, step: int, distribution: Tensor) -> Tensor:
    return replace(run.streams[name], timestep_distribution=distribution).draw(CONFIG.seed, step).t


def _wrong_labels(run: Parts, name: str, labels: Tensor, draw: Draw, own: Tensor) -> str | None:
    if torch.equal(labels, draw.labels):
        return None
    null = run.pretrained.null_label
    if name == "bank":
        return f"bank pictures train under the null label, row {null}, not under their own"
    if torch.equal(labels, own):
        return f"no label of the {SETS[name]} is dropped: one in ten becomes the null label"
    if (labels == null).all():
        return f"the {SETS[name]} train under their own labels; only one in ten becomes the null label"
    return (
        f"the {SETS[name]} have other labels than in the library's step: drop those where "
        f"torch.rand(n, generator=batch.generator) < {CONFIG.label_drop}, picked after t and noise"
    )


def _wrong_noise(run: Parts, draw: Draw, asked: Asked) -> str | None:
    expected = run.pretrained.diffusion.q_sample(draw.x_0, draw.t, draw.noise)
    if asked.x_t.shape == expected.shape and torch.allclose(asked.x_t, expected, atol=1e-3):
        return None
    return f"t and labels are right, the noised pictures are not: the noise must come second from the batch's generator, after t; {NOISED}"


def _wrong_loss(run: Parts, name: str, asked: dict[str, Asked] | None, value: float) -> str:
    """The model was asked the right things at the first step: which other loss of its answer has that value?"""
    if asked is None:
        return "the denoiser should see each batch once: 26 target pictures and 6 of the bank"
    stream, output, x_t = run.streams[name], asked[name].output, asked[name].x_t
    draw = stream.draw(CONFIG.seed, 0)
    error = eps_loss(output, draw.noise)
    eps, variance = output.chunk(2, dim=1)
    whole = error + variational_bound(eps, variance, draw.x_0, x_t, draw.t, run.pretrained.diffusion)
    weights = (len(stream.timestep_distribution) * stream.timestep_distribution).float()[draw.t]
    others = {
        "the term of the learned variance is missing": error.mean(),
        f"the loss is multiplied by a weight of t, too: t is picked by it already, so it would count twice; {CURVES}": (
            weights * whole
        ).mean(),
        f"return the bank's loss as it is; its weight, {CONFIG.bank_weight}, belongs in the sum": CONFIG.bank_weight * whole.mean(),
        "the loss is a sum over the pictures: take the mean": whole.sum(),
    }
    for words, other in others.items():
        if abs(value - float(other)) <= NEAR * abs(float(other)):
            return words
    return "the model is asked the right thing; what is computed from its answer differs"


def _number(loss: Tensor | float) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


@exercise("steeper weights")
def steeper_weights(answer: Callable) -> Grade:
    """answer() -> the target's and the bank's distribution of t at power 2, (T,) each."""
    given = answer()
    written(given)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return Grade(False, "return two tensors: the target's distribution and the bank's")
    for name, found, descending in zip(SETS.values(), given, (False, True)):
        graded = compare(found, timestep_distribution(1000, 2.0, descending=descending), separate=True)
        if not graded.passed:
            linear = timestep_distribution(1000, 1.0, descending=descending)
            hint = "; that is power 1" if compare(found, linear, separate=True).passed else ""
            return Grade(False, f"for the {name}: {graded.message}{hint}; {STEEPER}")
    return graded
