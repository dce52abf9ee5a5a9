"""The figures of lesson 01."""

from __future__ import annotations

from typing import Mapping, Sequence

import torch
from torch import Tensor

from ..figures import COLOURS, SOURCE, TASK, Figure, describe, picture_rows, theme

CONTROLS = ["#D55E00", "#009E73", "#CC79A7"]


def chain_rows(rows: Mapping[str, Tensor], timesteps: Sequence[int]) -> Figure:
    """Rows of pictures (one for each timestep), under the timesteps; what is drawn is what the latents decode to."""
    figure = picture_rows(rows, columns=len(timesteps), heads=[f"{t}" for t in timesteps])
    figure.set_size_inches(1.35 * figure.get_size_inches())
    figure.axes[0].set_title("timestep t", fontsize=10, loc="left")
    figure.axes[-1].set_xlabel("\N{LEFTWARDS ARROW} a picture is drawn from right to left", fontsize=11)
    return describe(
        figure,
        f"Pictures at the timesteps {', '.join(map(str, timesteps))}, from little noise to almost nothing else. Rows: {', '.join(rows)}.",
    )


def timestep_curves(rising: Tensor, falling: Tensor) -> Figure:
    """How often each timestep is drawn for the target, for the bank and in plain fine-tuning, where the mean is 1."""
    T = len(rising)
    with theme():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axis = figure.subplots()
    for distribution, colour, name, at, side in (
        (rising, TASK, r"target pictures: $\psi$, reconsolidation", T - 12, "right"),
        (falling, SOURCE, r"memory bank: $\xi$, retention", 12, "left"),
    ):
        axis.plot(T * distribution, color=colour, linewidth=3)
        axis.annotate(name, (at, 2.12), ha=side, color=colour, fontsize=11)
    axis.axhline(1, color="0.45", linewidth=1.5, linestyle="--")
    axis.annotate("plain fine-tuning", (T - 10, 1.06), ha="right", color="0.35", fontsize=11)
    axis.set(
        xlabel="timestep t  (left: data end, little noise; right: noise end)",
        ylabel="how often it is drawn,\ntimes the average",
        xlim=(0, T - 1),
        ylim=(0, 2.4),
    )
    return describe(
        figure,
        "How often training draws each timestep. For target pictures a line that rises from nearly 0 at t = 0 to 2 at the last "
        "timestep; for the memory bank its mirror image; plain fine-tuning is flat at 1.",
    )


def losses_of_both(library: Tensor, own: Tensor) -> Figure:
    """The two terms at every step, (steps, 2) each: the library's as a broad pale line, the reader's as a thin one on top."""
    with theme():
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
    for place, (axis, name) in enumerate(zip(axes, ("target loss", "bank loss"))):
        axis.plot(library[:, place], color=COLOURS["Diff-Tuning, weight 1"], linewidth=5, alpha=0.6, label="dt.fine_tune")
        axis.plot(own[:, place], color="black", linewidth=1, label="your loop")
        axis.set(ylabel=name, ylim=(0, 1.3 * float(library[:, place].max())))
    axes[0].legend(loc="upper right", ncols=2, frameon=True, fontsize=10)
    axes[1].set(xlabel="training step", xlim=(0, len(library) - 1))
    gap = float(relative_differences(library, own).max())
    return describe(
        figure,
        f"Target loss and bank loss over {len(library)} training steps, of dt.fine_tune and of your loop. "
        f"The largest relative difference is {gap:.1g}.",
    )


def loss_differences(library: Tensor, runs: Mapping[str, Tensor], floor: float = 1e-8) -> Figure:
    """Each run's relative difference from the library's losses at every step, logarithmic; exact agreement lies at `floor`; (steps, 2)."""
    with theme():
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axis = figure.subplots()
    steps = max(map(len, runs.values()))
    ends = {}
    for (name, losses), colour in zip(runs.items(), ["black", *CONTROLS]):
        gaps = relative_differences(library, losses).clamp(min=floor)
        axis.plot(gaps, color=colour, linewidth=2, marker="o", markersize=3)
        axis.annotate(name, (len(gaps) - 1, float(gaps[len(gaps) // 2 :].log().mean().exp())), (6, 0), textcoords="offset points",
                      va="center", color=colour, fontsize=11)  # fmt: skip
        ends[name] = float(gaps[-1])
    axis.set_yscale("log")
    axis.set(
        xlabel="training step",
        ylabel="relative difference\nfrom dt.fine_tune",
        xlim=(-0.5, 1.42 * steps),
        ylim=(floor / 3, 20),
    )
    axis.set_xticks(range(0, steps + 1, 5))
    return describe(
        figure,
        "Relative difference from the library's losses at each training step, logarithmic. At the last step: "
        + "; ".join(f"{name} {gap:.1g}" for name, gap in ends.items())
        + ".",
    )


def relative_differences(library: Tensor, losses: Tensor) -> Tensor:
    """The larger of the two terms' relative differences at every step that both have done; (steps,)."""
    steps = min(len(library), len(losses))
    library, losses = torch.as_tensor(library)[:steps].double(), torch.as_tensor(losses)[:steps].double()
    return ((losses - library).abs() / library.abs()).amax(1)
