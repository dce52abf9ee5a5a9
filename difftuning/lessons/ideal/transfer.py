"""Where transfer comes from: closed-form denoisers over the source against the trained network, on pictures of a task.

left       x_t at the scale of x_0: the noise stays in (no denoiser at all; `comparison` adds it)
ideal      the theorem: an average of whole source pictures
patches    the same cell by cell, on windows (the closed form of a denoiser that sees its surroundings only)
gaussian   the best linear denoiser: of the source it knows mean and covariance
network    the pre-trained denoiser, under the null label

python -m difftuning.lessons.ideal.transfer     # rebuilds data/results/transfer.csv; some minutes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Sequence

import torch
from torch import Tensor

from ...data.latents import encode_latents
from ...data.tasks import Task, list_tasks, load_source, load_task, spread_evenly
from ...diffusion.ideal import ideal_denoiser, patch_denoiser
from ...diffusion.process import Diffusion
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...support.files import atomic_path
from ...support.progress import progress_bar
from ...support.random import seeded_generator
from ...support.world import data_folder, world_version

if TYPE_CHECKING:
    import pandas

TIMESTEPS = (10, 30, 60, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900)
PATCHES = (1, 3, 5, 7)
SOURCE_SIZES = (50, 500, 5000)
PICTURES = 100
HELD_OUT = "source, held out"


def gaussian_denoiser(x_t: Tensor, t: int, data: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """E[x_0 | x_t] if x_0 were Gaussian with the mean and covariance of `data` (M, ...): the best linear denoiser.

    mean + sqrt(a) C (a C + (1 - a) I)^-1 (x_t - sqrt(a) mean)
    """
    a = alphas_cumprod[t].double()
    points = data.flatten(1).double()
    mean, covariance = points.mean(0), torch.cov(points.T)
    noisy = a * covariance + (1 - a) * torch.eye(len(mean), dtype=torch.float64)
    offset = x_t.flatten(1).double() - a.sqrt() * mean  # (N, D)
    return (mean + a.sqrt() * torch.linalg.solve(noisy, offset.T).T @ covariance).reshape(x_t.shape).to(x_t.dtype)


@torch.no_grad()
def network_denoiser(model: Pretrained, x_t: Tensor, t: int) -> Tensor:
    """The model's estimate of x_0 under its null label."""
    times = torch.full((len(x_t),), t)
    nulls = torch.full((len(x_t),), model.null_label)
    eps = model.predict(x_t.to(model.device), times.to(model.device), nulls.to(model.device)).chunk(2, dim=1)[0]
    return model.diffusion.predict_x0(x_t, times, eps.cpu())


def noised(latents: Tensor, t: int, diffusion: Diffusion, *, seed: int = 0) -> Tensor:
    """x_t of latents (N, C, h, w), with noise of its own for each t."""
    noise = torch.randn(latents.shape, generator=seeded_generator(seed, "transfer", t))
    return diffusion.q_sample(latents, torch.full((len(latents),), t), noise)


def denoisers(model: Pretrained, source: Tensor) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Every denoiser by name, (x_t, t) -> x_0, over the latents `source` (M, C, h, w)."""
    tables = model.diffusion.alphas_cumprod
    found = {
        "network": lambda x_t, t: network_denoiser(model, x_t, t),
        "ideal": lambda x_t, t: ideal_denoiser(x_t, t, source, tables),
    }
    if len(source) > source[0].numel():  # a covariance of fewer pictures than numbers has no inverse
        found["gaussian"] = lambda x_t, t: gaussian_denoiser(x_t, t, source, tables)
    for size in PATCHES:
        found[f"patches of {size}"] = lambda x_t, t, size=size: patch_denoiser(x_t, t, source, tables, size)
    return found


def transfer_errors(model: Pretrained, latents: Tensor, source: Tensor, timesteps: Sequence[int], *, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each denoiser and timestep: squared error of x_0 per latent number, its mean over pictures and standard error."""
    rows = []
    for t in timesteps:
        x_t = noised(latents, t, model.diffusion, seed=seed)
        for name, denoise in denoisers(model, source).items():
            errors = (denoise(x_t, t) - latents).double().square().flatten(1).mean(1)  # (N,)
            standard_error = float(errors.std() / len(errors) ** 0.5)
            rows.append({"denoiser": name, "t": t, "error": float(errors.mean()), "standard_error": standard_error})
    return rows


def spread_over(latents: Tensor, size: int) -> Tensor:
    """`size` of the latents, spread evenly over a set that is sorted by class."""
    return latents[spread_evenly(len(latents), size)]


def transfer_table(model: Pretrained, tasks: Sequence[str] | None = None, *, source_sizes: Sequence[int] = SOURCE_SIZES,
                   timesteps: Sequence[int] = TIMESTEPS, pictures: int = PICTURES) -> pandas.DataFrame:  # fmt: skip
    """`transfer_errors` for the held-out source and every task's validation split, against the size of the source set."""
    import pandas

    source = encode_latents(model, load_source())["latents"]
    sets: dict[str, Task] = {HELD_OUT: load_source("heldout")}
    sets |= {name: load_task(name, split="validation") for name in (list_tasks() if tasks is None else tasks)}
    rows = []
    for name, task in progress_bar(list(sets.items()), "sets"):
        latents = spread_over(encode_latents(model, task)["latents"], min(pictures, len(task)))
        for size in source_sizes:
            found = transfer_errors(model, latents, spread_over(source, min(size, len(source))), timesteps)
            if size != source_sizes[0]:  # the network does not depend on the set
                found = [row for row in found if row["denoiser"] != "network"]
            rows += [{"world": world_version(), "task": name, "source_size": size, **row} for row in found]
    return pandas.DataFrame(rows)


def best_patches(table: pandas.DataFrame) -> pandas.DataFrame:
    """The windows' errors at the size that is best, at each t, on the held-out *source*; a row for each task, source size and t."""
    windows = table[table.denoiser.str.startswith("patches")]
    held_out = windows[windows.task == HELD_OUT]
    chosen = held_out.loc[held_out.groupby(["source_size", "t"]).error.idxmin(), ["source_size", "t", "denoiser"]]
    return windows.merge(chosen, on=["source_size", "t", "denoiser"])


def best_sizes(table: pandas.DataFrame) -> pandas.DataFrame:
    """The size of the windows in `best_patches`: a row for each source size, a column for each t."""
    best = best_patches(table)
    best = best[best.task == HELD_OUT]
    return best.assign(size=best.denoiser.str.removeprefix("patches of ").astype(int)).pivot(
        index="source_size", columns="t", values="size"
    )


def comparison(table: pandas.DataFrame, alphas_cumprod: Tensor) -> pandas.DataFrame:
    """`table` with one curve for the windows, "patches" at the best size, and one for doing nothing, "left".

    Left as it is, x_t / sqrt(a) differs from x_0 by sqrt((1 - a) / a) times the noise, so its error
    per number is (1 - a) / a, whatever the picture.
    """
    import pandas

    kept = table[~table.denoiser.str.startswith("patches")]
    left = table[["world", "task", "source_size", "t"]].drop_duplicates()
    a = alphas_cumprod[torch.tensor(left.t.to_numpy())].double().cpu()
    left = left.assign(denoiser="left", error=((1 - a) / a).numpy(), standard_error=0.0)
    return pandas.concat([kept, best_patches(table).assign(denoiser="patches"), left], ignore_index=True)


def ratio(table: pandas.DataFrame, source_size: int, above: str, below: str) -> pandas.DataFrame:
    """Error of one denoiser over another's in a `comparison`: a row for each set, a column for each t."""
    rows = table[table.source_size.eq(source_size) | table.denoiser.eq("network")]  # the network knows no source size
    errors = {name: rows[rows.denoiser == name].pivot(index="task", columns="t", values="error") for name in (above, below)}
    return errors[above] / errors[below]


if __name__ == "__main__":
    with atomic_path(data_folder() / "results" / "transfer.csv") as scratch:
        transfer_table(load_pretrained("tiny")).to_csv(scratch, index=False, float_format="%.5g", lineterminator="\n")
