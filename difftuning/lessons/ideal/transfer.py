"""Denoisers that know the source in different ways, on pictures that none of them has seen.

ideal      the best denoiser of the source as a finite set: an average of whole pictures
patches    the same cell by cell, on windows (the best that sees a cell's surroundings only)
linear     the best linear denoiser: of the source it knows mean and covariance
learned    the pre-trained network, under the null label

python -m difftuning.lessons.ideal.transfer     # rebuilds data/results/transfer.csv; two minutes on one core
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Sequence

import torch
from torch import Tensor

from ...data.latents import encode_latents
from ...data.tasks import Task, load_source, load_task, spread_evenly
from ...diffusion.ideal import ideal_denoiser, patch_denoiser
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...support.files import atomic_path
from ...support.progress import progress_bar
from ...support.random import seeded_generator
from ...support.world import data_folder, world_version

if TYPE_CHECKING:
    import pandas

TIMESTEPS = (10, 30, 60, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 999)
PATCHES = (1, 3, 5, 7)
PICTURES = 100
HELD_OUT = "source, held out"
TASKS = ("footwear", "digits")
CLASSES = {"footwear": "shoe", "digits": "handwritten digit"}  # of the source: what the tasks' pictures are, whichever of their classes


def noise_level(t: int | Sequence[int], alphas_cumprod: Tensor) -> Tensor:
    """Standard deviation of the noise as a multiple of the picture's scale: sqrt((1 - a) / a)."""
    a = alphas_cumprod[torch.as_tensor(t)].double().cpu()
    return ((1 - a) / a).sqrt()


def linear_denoiser(x_t: Tensor, t: int, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The best linear denoiser of `data` (M, ...), which would be E[x_0 | x_t] if x_0 were Gaussian.

    mean + sqrt(a) C (a C + (1 - a) I)^-1 (x_t - sqrt(a) mean)
    """
    a = alphas_cumprod[t].double()
    points = data.flatten(1).double()
    mean, covariance = points.mean(0), torch.cov(points.T)
    noisy = a * covariance + (1 - a) * torch.eye(len(mean), dtype=torch.float64)
    offset = x_t.flatten(1).double() - a.sqrt() * mean  # (N, D)
    return (mean + a.sqrt() * torch.linalg.solve(noisy, offset.T).T @ covariance).reshape(x_t.shape).to(x_t.dtype)


@torch.no_grad()
def learned_denoiser(model: Pretrained, x_t: Tensor, t: int, label: str | None = None) -> Tensor:
    """The model's estimate of x_0, told that class; without one, under its null label."""
    times = torch.full((len(x_t),), t)
    labels = torch.full((len(x_t),), model.null_label if label is None else model.label_names.index(label))
    eps = model.predict(x_t.to(model.device), times.to(model.device), labels.to(model.device)).chunk(2, dim=1)[0]
    return model.diffusion.predict_x0(x_t, times, eps.cpu())


def noised(model: Pretrained, latents: Tensor, t: int, *, seed: int = 0) -> Tensor:
    """x_t of latents (N, C, h, w), with noise of its own for each t."""
    noise = torch.randn(latents.shape, generator=seeded_generator(seed, "transfer", t))
    return model.diffusion.q_sample(latents, torch.full((len(latents),), t), noise)


def latents_of(model: Pretrained, pictures: Task, count: int | None = None) -> Tensor:
    """Latents of `count` of the pictures, spread evenly over a set that is sorted by class; without a count, of all."""
    latents = encode_latents(model, pictures, progress=False)["latents"].cpu()
    return latents if count is None else latents[spread_evenly(len(latents), min(count, len(latents)))]


def held_out_pictures(name: str) -> Task:
    """Pictures that neither the model nor the closed forms have seen: of the source (`HELD_OUT`), or a task's validation split."""
    return load_source("heldout") if name == HELD_OUT else load_task(name, split="validation")


def denoisers(model: Pretrained, source: Tensor) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """The three of a `transfer_table`, (x_t, t) -> x_0, over the latents `source` (M, C, h, w); the windows in each size."""
    tables = model.diffusion.alphas_cumprod
    found = {
        "learned": lambda x_t, t: learned_denoiser(model, x_t, t),
        "ideal": lambda x_t, t: ideal_denoiser(x_t, t, source, tables),
    }
    for size in PATCHES:
        found[f"patches of {size}"] = lambda x_t, t, size=size: patch_denoiser(x_t, t, source, tables, size)
    return found


def pictures_in_average(weights: Tensor) -> Tensor:
    """How many equal weights would be spread as far as each row of `weights` (N, M), by their sum of squares; (N,)."""
    return 1 / weights.square().sum(1)


def share_left(errors: pandas.DataFrame) -> pandas.DataFrame:
    """How much of the network's lead over doing nothing is left: 1 all of it, 0 nothing, below 0 is harm.

    `errors`, a row for each t, has "noisy" (doing nothing), "as it is" (the network on pictures that nothing was done to) and others,
    whose share is (noisy - error) / (noisy - error as it is).
    """
    lead = -errors.sub(errors["noisy"], axis=0)
    return lead.div(lead["as it is"], axis=0).drop(columns=["noisy", "as it is"])


def squared_errors(found: Tensor, latents: Tensor) -> Tensor:
    """Squared error of x_0 per latent number, one for each picture; float64 (N,)."""
    return (found - latents).double().square().flatten(1).mean(1)


def transfer_errors(model: Pretrained, latents: Tensor, source: Tensor, timesteps: Sequence[int] = TIMESTEPS) -> list[dict[str, Any]]:
    """A row for each denoiser and timestep: its error's mean over pictures and the standard error of that."""
    rows = []
    for t in timesteps:
        x_t = noised(model, latents, t)
        for name, denoise in denoisers(model, source).items():
            errors = squared_errors(denoise(x_t, t), latents)
            standard_error = float(errors.std() / len(errors) ** 0.5)
            rows.append({"denoiser": name, "t": t, "error": float(errors.mean()), "standard_error": standard_error})
    return rows


def transfer_table(model: Pretrained, names: Sequence[str] = (HELD_OUT, *TASKS), *, pictures: int = PICTURES) -> pandas.DataFrame:
    """`transfer_errors` on held-out pictures of the source and of both development tasks."""
    import pandas

    source, rows = latents_of(model, load_source()), []
    for name in progress_bar(list(names), "sets"):
        errors = transfer_errors(model, latents_of(model, held_out_pictures(name), pictures), source)
        rows += [{"world": world_version(), "pictures": name, **row} for row in errors]
    return pandas.DataFrame(rows)


def best_sizes(table: pandas.DataFrame) -> dict[int, int]:
    """At each t the size of the windows that is best on the held-out *source*: nothing is chosen on a task."""
    windows = table[table.denoiser.str.startswith("patches") & table.pictures.eq(HELD_OUT)]
    best = windows.loc[windows.groupby("t").error.idxmin()]
    return {int(t): int(name.removeprefix("patches of ")) for t, name in zip(best.t, best.denoiser)}


def with_best_patches(table: pandas.DataFrame) -> pandas.DataFrame:
    """`table` with one more curve, "patches": windows whose size at each t is that of `best_sizes`; it stands in `size`."""
    import pandas

    size = table.t.map(best_sizes(table))
    best = table[table.denoiser.eq(size.map("patches of {}".format))].assign(denoiser="patches")
    return pandas.concat([table, best], ignore_index=True).assign(size=lambda both: both.t.map(best_sizes(table)))


def advantages(model: Pretrained, latents: Tensor, source: Tensor, timesteps: Sequence[int] = TIMESTEPS) -> pandas.DataFrame:
    """By what share the learned denoiser's error is below that of others, with half of a 95 % interval over pictures.

    The pictures and their noise are the same for all.  A row for each other ("ideal", "linear", "noisy": x_t / sqrt(a),
    as it is) and t.  The interval is that of a ratio of means, by the delta method.
    """
    import pandas

    tables, rows = model.diffusion.alphas_cumprod, []
    for t in timesteps:
        x_t = noised(model, latents, t)
        learned = squared_errors(learned_denoiser(model, x_t, t), latents)
        others = {
            "ideal": ideal_denoiser(x_t, t, source, tables),
            "linear": linear_denoiser(x_t, t, source, tables),
            "noisy": x_t / float(tables[t]) ** 0.5,
        }
        for name, found in others.items():
            errors = squared_errors(found, latents)
            ratio = float(learned.mean() / errors.mean())
            half_width = 1.96 * float((learned - ratio * errors).std() / errors.mean() / len(errors) ** 0.5)
            rows.append({"other": name, "t": t, "advantage": 1 - ratio, "half_width": half_width})
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "transfer.csv") as scratch:
        transfer_table(load_pretrained("tiny")).to_csv(scratch, index=False, float_format="%.5g", lineterminator="\n")
