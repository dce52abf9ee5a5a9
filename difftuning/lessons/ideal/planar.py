"""A world in the plane whose best denoisers are known: the source lies along a spiral, the target on a short arc of it.

The best denoiser of a mixture of Gaussians has a closed form.  So the loss of any other denoiser splits exactly:

    E ||F - x_0||^2  =  E ||best - x_0||^2  +  E ||F - best||^2
        its loss          the best loss         its excess

python -m difftuning.lessons.ideal.planar     # rebuilds data/results/planar.csv; three minutes on one core
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

import torch
from torch import Tensor, nn

from ...config import TrainingConfig
from ...diffusion.process import Diffusion, matched_snr_scale, scale_snr
from ...diffusion.timestep_weights import timestep_distribution
from ...support.files import atomic_path
from ...support.progress import progress_bar
from ...support.random import initialised_by, seeded_generator
from ...support.world import data_folder, world_version
from ...training.loop import train
from ...training.objective import Objective, Stream

if TYPE_CHECKING:
    import pandas

DIFFUSION = Diffusion(scale_snr(Diffusion().betas, matched_snr_scale(8)))  # as in the tiny world: a timestep means the same noise
NULL, TARGET = 0, 1  # rows of the network's label table
TIMESTEPS = (10, 30, 60, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900)
PRETRAINING_STEPS, TUNING_STEPS, SEEDS = 3000, 2000, 5
TARGET_POINTS, BANK_POINTS = 16, 2000
POINTS = 4000  # that errors are averaged over
FROM_BANK, BANK_WEIGHT = 6, 0.1  # of Diff-Tuning's batch of 32


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


def noised(points: Tensor, t: int, *, seed: int = 0) -> Tensor:
    """x_t of points (N, 2), with noise of its own for each t."""
    noise = torch.randn(points.shape, generator=seeded_generator(seed, "plane", t))
    return DIFFUSION.q_sample(points, torch.full((len(points),), t), noise)


class PlanarDenoiser(nn.Module):
    """A small network that predicts the noise in points: x_t (N, 2, 1, 1), t, labels -> (N, 2, 1, 1)."""

    def __init__(self, width: int = 128, depth: int = 3, seed: int = 0):
        super().__init__()
        with initialised_by(seed):
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
        """Points x_t of two numbers each, timesteps and labels (N,) -> the noise in the shape of x_t."""
        points = x_t.flatten(1)  # (N, 2)
        place, time = (points[:, :, None] * self.in_space).flatten(1), t[:, None] * self.in_time  # (N, 8), (N, 16)
        hidden = self.enter(torch.cat([points, place.sin(), place.cos(), time.sin(), time.cos()], 1)) + self.label_table(labels)
        for layer in self.layers:
            hidden = hidden + layer(hidden)  # (N, width)
        return self.leave(hidden).reshape(x_t.shape)


def pretrained_denoiser(*, steps: int = PRETRAINING_STEPS, seed: int = 0) -> nn.Module:
    """A network trained on 20,000 points of the source, without label.

    The target's label means at first what no label does, as new classes do in the models of pictures.
    """
    source, _ = spiral_world()
    streams = [_stream("source", source.sample(20_000, seed=seed), NULL, 256, power=0.0)]
    network = _trained(PlanarDenoiser(seed=seed), streams, steps, learning_rate=2e-3, seed=seed)
    with torch.no_grad():
        network.label_table.weight[TARGET] = network.label_table.weight[NULL]
    return network


def tuned_denoiser(pretrained: nn.Module, *, with_bank: bool, steps: int = TUNING_STEPS, seed: int = 0) -> nn.Module:
    """Fine-tune a copy of `pretrained` on sixteen points of the target: plainly, or by Diff-Tuning.

    The bank's points are sampled from the source itself: here it is known.
    """
    source, target = spiral_world()
    points = target.sample(TARGET_POINTS, seed=seed)
    if with_bank:
        bank = source.sample(BANK_POINTS, seed=seed + 1000)
        streams = [
            _stream("target", points, TARGET, 32 - FROM_BANK, power=1.0),
            _stream("bank", bank, NULL, FROM_BANK, power=1.0, descending=True, weight=BANK_WEIGHT),
        ]
    else:
        streams = [_stream("target", points, TARGET, 32, power=0.0)]
    return _trained(copy.deepcopy(pretrained), streams, steps, learning_rate=1e-3, seed=seed)


def _stream(name: str, points: Tensor, label: int, batch: int, *, power: float, descending: bool = False, weight: float = 1.0) -> Stream:
    distribution = timestep_distribution(DIFFUSION.num_timesteps, power, descending=descending)
    return Stream(name, points[:, :, None, None], torch.full((len(points),), label), batch, distribution, weight=weight)


def _trained(network: nn.Module, streams: list[Stream], steps: int, *, learning_rate: float, seed: int) -> nn.Module:
    config = TrainingConfig(
        steps=steps, batch_size=sum(stream.batch for stream in streams), learning_rate=learning_rate, ema_decay=0.999, seed=seed,
    )  # fmt: skip
    objective, threads = Objective(streams, DIFFUSION, seed), torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small takes longer on two
    try:
        state, _ = train(network, objective, config, run=None, device=torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    return state.ema_model()


@torch.no_grad()
def excess_error(
    denoiser: nn.Module | Mixture, world: Mixture, timesteps: Sequence[int] = TIMESTEPS, *, label: int = TARGET, points: int = POINTS
) -> Tensor:
    """The excess of a denoiser's loss on points of `world`, as a share of the best loss; float64 (len(timesteps),).

    0 is the best there is; at 1 the loss is twice that.  The share is the same for errors of x_0 and of the noise.
    """
    x_0, found = world.sample(points, seed=99), []
    for t in timesteps:
        x_t, times = noised(x_0, t), torch.full((points,), t)
        best = world.denoise(x_t, t)
        if isinstance(denoiser, Mixture):
            answer = denoiser.denoise(x_t, t)
        else:
            eps = denoiser(x_t[:, :, None, None], times, torch.full((points,), label)).flatten(1)
            answer = DIFFUSION.predict_x0(x_t, times, eps)
        found.append((answer - best).square().mean().double() / (x_0 - best).square().mean().double())
    return torch.stack(found)


def planar_table(seeds: Sequence[int] = range(SEEDS)) -> pandas.DataFrame:
    """Excess errors on the target before and after tuning on few points: a row for each seed, method and timestep."""
    import pandas

    rows: list[dict[str, Any]] = []
    _, target = spiral_world()
    for seed in progress_bar(seeds, "seeds"):
        before = pretrained_denoiser(seed=seed)
        networks = {"pre-trained": before, "plain": tuned_denoiser(before, with_bank=False, seed=seed)}
        networks["Diff-Tuning"] = tuned_denoiser(before, with_bank=True, seed=seed)
        for method, network in networks.items():
            facts = {"world": world_version(), "seed": seed, "method": method, "step": 0 if network is before else TUNING_STEPS}
            rows += [{**facts, "t": t, "excess": excess} for t, excess in zip(TIMESTEPS, excess_error(network, target).tolist())]
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "planar.csv") as scratch:
        planar_table().to_csv(scratch, index=False, float_format="%.5g", lineterminator="\n")
