"""A world in the plane whose truth is known: points along a spiral, and along a short arc of it.

The best possible denoiser of a mixture of Gaussians has a closed form, so that a network's
error can be told exactly at every timestep, apart from the loss that nobody can avoid:

    E ||eps - eps_net||^2  =  E ||eps - eps_true||^2  +  E ||eps_true - eps_net||^2
         the loss                 unavoidable              the network's own error

    python -m difftuning.lessons.ideal.planar     # rebuilds data/results/planar.csv
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator, Literal, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...config import TrainingConfig
from ...diffusion.process import Diffusion
from ...diffusion.timestep_weights import timestep_distribution
from ...studies.gains import estimate
from ...support.files import atomic_path
from ...support.progress import progress_bar
from ...support.random import seeded_generator
from ...support.world import data_folder
from ...training.loop import TrainingState, train
from ...training.objective import Objective, Stream

if TYPE_CHECKING:
    import pandas

DIFFUSION = Diffusion()
NULL, TARGET = 0, 1  # rows of the network's label table
TIMESTEPS = (5, 10, 20, 35, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 700)
MARKS = (250, 500, 1000, 2000, 4000)
TARGET_POINTS, BANK_POINTS = 16, 2000
POINTS = 4000  # that errors are averaged over
# share of the bank in a batch of 32, its weight, and whether the target's timesteps follow the rising law
METHODS = {
    "plain": (0, 0.0, False),
    "reconsolidation only": (0, 0.0, True),
    "Diff-Tuning": (6, 0.1, True),
    "Diff-Tuning, weight 1": (6, 1.0, True),
}


@dataclass(frozen=True)
class Mixture:
    """Equally likely round Gaussians of standard deviation `std` around `means` (K, 2)."""

    means: Tensor
    std: float

    def sample(self, size: int, *, seed: int) -> Tensor:
        """Points (size, 2)."""
        generator = seeded_generator(seed, "mixture", size)
        component = torch.randint(len(self.means), (size,), generator=generator)
        return self.means[component] + self.std * torch.randn(size, 2, generator=generator)

    def denoise(self, x_t: Tensor, t: int) -> Tensor:
        """E[x_0 | x_t] of points (N, 2): each component's own answer, weighed by how likely it is."""
        a = float(DIFFUSION.alphas_cumprod[t])
        spread = a * self.std**2 + 1 - a  # variance of x_t inside a component
        offset = x_t[:, None] - math.sqrt(a) * self.means  # (N, K, 2)
        responsibility = (-offset.square().sum(2) / (2 * spread)).softmax(1)  # (N, K)
        answers = self.means + math.sqrt(a) * self.std**2 / spread * offset  # (N, K, 2)
        return (responsibility[..., None] * answers).sum(1)


def spiral_world() -> tuple[Mixture, Mixture]:
    """Source: two turns of a spiral; target: a fifth of it, the same line in the same place."""
    along = torch.linspace(0, 1, 80)
    angle, radius = 4 * math.pi * along, 0.35 + 1.5 * along
    means = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return Mixture(means, 0.06), Mixture(means[42:58], 0.06)


class PlanarDenoiser(nn.Module):
    """A small network that predicts the noise in points: x_t (N, 2, 1, 1), t, labels -> (N, 2, 1, 1)."""

    def __init__(self, width: int = 128, depth: int = 3, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.register_buffer("in_time", torch.logspace(0, math.log10(200), 16) / DIFFUSION.num_timesteps)
            self.register_buffer("in_space", torch.tensor([1.5, 3.0, 6.0, 12.0]))
            self.enter = nn.Linear(2 + 2 * 2 * 4 + 2 * 16, width)
            self.label_table = nn.Embedding(2, width)
            self.layers = nn.ModuleList(
                nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
            )
            self.leave = nn.Linear(width, 2)
            nn.init.zeros_(self.label_table.weight)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        points = x_t.flatten(1)  # (N, 2)
        place, time = (points[:, :, None] * self.in_space).flatten(1), t[:, None] * self.in_time  # (N, 8), (N, 16)
        hidden = self.enter(torch.cat([points, place.sin(), place.cos(), time.sin(), time.cos()], 1)) + self.label_table(labels)
        for layer in self.layers:
            hidden = hidden + layer(hidden)  # (N, width)
        return self.leave(hidden).reshape(x_t.shape)


def pretrained_denoiser(*, steps: int = 3000, seed: int = 0) -> nn.Module:
    """A network trained on 20,000 points of the source, without label; some 15 seconds on one core.

    The target's label means at first what no label does, as new classes do in the models of pictures.
    """
    source, _ = spiral_world()
    stream = _stream("source", source.sample(20_000, seed=seed), NULL, 256, power=0.0)
    network = _train(PlanarDenoiser(seed=seed), [stream], [steps], learning_rate=2e-3, seed=seed)[steps]
    with torch.no_grad():
        network.label_table.weight[TARGET] = network.label_table.weight[NULL]
    return network


def tuned_denoisers(pretrained: nn.Module, method: str, marks: Sequence[int] = MARKS, *, seed: int = 0) -> dict[int, nn.Module]:
    """Fine-tune a copy of `pretrained` on sixteen points of the target; the network after each number of steps in `marks`.

    The bank's points are sampled from the source itself: here it is known.
    """
    source, target = spiral_world()
    from_bank, weight, rising = METHODS[method]
    streams = [_stream("target", target.sample(TARGET_POINTS, seed=seed), TARGET, 32 - from_bank, power=float(rising))]
    if from_bank:
        streams.append(
            _stream("bank", source.sample(BANK_POINTS, seed=seed + 1000), NULL, from_bank, power=1.0, descending=True, weight=weight)
        )
    return _train(copy.deepcopy(pretrained), streams, marks, learning_rate=1e-3, seed=seed)


def _stream(name: str, points: Tensor, label: int, batch: int, *, power: float, descending: bool = False, weight: float = 1.0) -> Stream:
    law = timestep_distribution(DIFFUSION.num_timesteps, power, descending=descending)
    return Stream(name, points[:, :, None, None], torch.full((len(points),), label), batch, law, weight=weight)


def _train(network: nn.Module, streams: list[Stream], marks: Sequence[int], *, learning_rate: float, seed: int) -> dict[int, nn.Module]:
    config = TrainingConfig(
        steps=max(marks), batch_size=sum(stream.batch for stream in streams), learning_rate=learning_rate, ema_decay=0.999, seed=seed,
    )  # fmt: skip
    found: dict[int, nn.Module] = {}

    def keep(state: TrainingState) -> None:
        if state.step in marks:
            found[state.step] = state.ema_model()

    with _one_thread():
        train(network, Objective(streams, DIFFUSION, seed), config, run=None, device=torch.device("cpu"), callbacks=[keep])
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """A network this small takes longer on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def own_error(
    denoiser: nn.Module | Mixture, world: Mixture, label: int, timesteps: Sequence[int] = TIMESTEPS, *, points: int = POINTS
) -> Tensor:
    """A denoiser's own error on points of `world`, as a fraction of the unavoidable loss; float64 (len(timesteps),).

    The fraction is the same for errors of the noise and of x_0.  0 is perfect; at 1 the loss
    is twice what it could be.  A `Mixture` stands for its own perfect denoiser.
    """
    fractions = []
    for t in timesteps:
        times, noise, x_t, truth = _with_truth(world, t, points)
        if isinstance(denoiser, Mixture):
            found = DIFFUSION.predict_eps(x_t, times, denoiser.denoise(x_t, t))
        else:
            found = denoiser(x_t[:, :, None, None], times, torch.full((points,), label)).flatten(1)
        fractions.append((found - truth).square().mean().double() / (noise - truth).square().mean().double())
    return torch.stack(fractions)


def unavoidable_loss(
    world: Mixture, timesteps: Sequence[int] = TIMESTEPS, *, of: Literal["noise", "x_0"] = "noise", points: int = POINTS
) -> Tensor:
    """The perfect denoiser's loss, squared error per number of the noise or of x_0; float64 (len(timesteps),)."""
    if of not in ("noise", "x_0"):
        raise ValueError(f"the loss is of noise or x_0, not of {of!r}")
    found = [_with_truth(world, t, points) for t in timesteps]
    losses = torch.stack([(noise - truth).square().mean().double() for _, noise, _, truth in found])
    a = DIFFUSION.alphas_cumprod[torch.tensor(timesteps)].double()
    return losses * (1 - a) / a if of == "x_0" else losses  # x_0 = (x_t - sqrt(1 - a) eps) / sqrt(a)


def _with_truth(world: Mixture, t: int, points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Timesteps, noise, noisy points and the best estimate of the noise."""
    x_0, times = world.sample(points, seed=99), torch.full((points,), t)
    noise = torch.randn(x_0.shape, generator=seeded_generator(0, "own error", t))
    x_t = DIFFUSION.q_sample(x_0, times, noise)
    return times, noise, x_t, DIFFUSION.predict_eps(x_t, times, world.denoise(x_t, t))


def planar_table(seeds: Sequence[int], methods: Sequence[str] = tuple(METHODS), marks: Sequence[int] = MARKS) -> pandas.DataFrame:
    """Own errors on target and source before and after tuning: a row for each seed, method, step count, set and timestep."""
    import pandas

    rows: list[dict[str, Any]] = []
    for seed in progress_bar(seeds, "seeds"):
        before = pretrained_denoiser(seed=seed)
        networks = {("pre-trained", 0): before}
        for method in methods:
            networks |= {(method, steps): network for steps, network in tuned_denoisers(before, method, marks, seed=seed).items()}
        for (method, steps), network in networks.items():
            rows += error_rows(network, seed=seed, method=method, step=steps)
    return pandas.DataFrame(rows)


def error_rows(network: nn.Module, **facts: Any) -> list[dict[str, Any]]:
    """A network's own errors on target and source: a row for each set and timestep, with the `facts` about the network."""
    source, target = spiral_world()
    rows = []
    for data, world, label in (("target", target, TARGET), ("source", source, NULL)):
        errors = own_error(network, world, label).tolist()
        rows += [{**facts, "data": data, "t": t, "error": error} for t, error in zip(TIMESTEPS, errors)]
    return rows


def ratios(table: pandas.DataFrame, data: str, step: int, other: str, ours: str = "Diff-Tuning") -> pandas.DataFrame:
    """How many times larger the own error of `other` is than ours on `data`; a row for each t.

    Geometric mean of the paired ratios over seeds, its 95 % interval and the verdict, which is
    "undecided" where the interval holds 1: five seeds that show no difference do not show that there is none.
    """
    import pandas

    def logs(method: str) -> pandas.DataFrame:
        own = table[(table.data == data) & (table.method == method) & table.step.eq(0 if method == "pre-trained" else step)]
        return np.log(own.pivot(index="seed", columns="t", values="error"))

    rows = {}
    for t, differences in (logs(other) - logs(ours)).items():
        found = estimate(differences.to_numpy())
        low, ratio, high = np.exp([found.mean - found.half_width, found.mean, found.mean + found.half_width])
        verdict = f"{ours} is better" if low > 1 else f"{other} is better" if high < 1 else "undecided"
        rows[t] = {"ratio": ratio, "low": low, "high": high, "verdict": verdict}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("t")


def ratio_text(found: pandas.Series) -> str:
    """A row of `ratios` in short: ratio and interval, with a star where the interval does not hold 1."""
    return f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]{' ' if found.verdict == 'undecided' else '*'}"


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "planar.csv") as scratch:
        planar_table(range(5)).to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")
