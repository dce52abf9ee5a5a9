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
    figure.axes[-1].set_xlabel("\N{LEFTWARDS ARROW} the new picture is drawn from right to left", fontsize=11)
    return describe(
        figure,
        f"Pictures at the timesteps {', '.join(map(str, timesteps))}, from little noise to almost nothing else. Rows: {', '.join(rows)}.",
    )


def timestep_curves(rising: Tensor, falling: Tensor) -> Figure:
    """How often each timestep is picked for the target, for the bank and in plain fine-tuning, where the mean is 1."""
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
        ylabel="how often it is picked,\nover the average",
        xlim=(0, T - 1),
        ylim=(0, 2.4),
    )
    return describe(
        figure,
        "How often training picks each timestep. For target pictures a line that rises from nearly 0 at t = 0 to 2 at the last "
        "timestep; for the memory bank its mirror image; plain fine-tuning is flat at 1.",
    )


def losses_of_both(library: Tensor, own: Tensor) -> Figure:
    """The two terms at every step, (steps, 2) each: the library's as a broad pale line, the page's as a thin one on top."""
    with theme():
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
    for place, (axis, name) in enumerate(zip(axes, ("target loss", "bank loss"))):
        axis.plot(library[:, place], color=COLOURS["Diff-Tuning"], linewidth=5, alpha=0.5)
        axis.plot(own[:, place], color="black", linewidth=1)
        axis.set(ylabel=name, ylim=(0, 1.35 * float(library[:, place].max())))
    for place, words, colour in ((0.47, "broad: dt.fine_tune", COLOURS["Diff-Tuning"]), (0.99, "thin: the loop of this page", "black")):
        axes[0].text(place, 0.96, words, color=colour, ha="right", va="top", transform=axes[0].transAxes, fontsize=11)
    axes[1].set(xlabel="training step", xlim=(0, len(library) - 1))
    gap = float(relative_differences(library, own).max())
    return describe(
        figure,
        f"Target loss and bank loss over {len(library)} training steps, of dt.fine_tune and of the loop of this page. "
        f"The largest relative difference is {gap:.1g}.",
    )


def loss_differences(library: Tensor, runs: Mapping[str, Tensor]) -> Figure:
    """Each run's relative difference from the library's losses at every step, logarithmic; hollow marks at the bottom are exactly 0; (steps, 2).

    The first run is drawn over the others.
    """
    with theme():
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axis = figure.subplots()
    steps, bottom = max(map(len, runs.values())), 1e-8
    ends = {}
    for place, ((name, losses), colour) in enumerate(zip(runs.items(), ["black", *CONTROLS])):
        gaps = relative_differences(library, losses)
        exact = (gaps == 0).nonzero()[:, 0]
        axis.plot(gaps.where(gaps > 0, torch.nan), color=colour, linewidth=2, marker="o", markersize=4, zorder=9 - place)
        axis.plot(exact, torch.full((len(exact),), bottom), color=colour, linestyle="none", marker="o", markersize=6, fillstyle="none")
        later = gaps[len(gaps) // 2 :]
        middle = float(later[later > 0].log().mean().exp()) if later.any() else bottom
        axis.annotate(name, (len(gaps) - 1, middle), (6, 0), textcoords="offset points", va="center", color=colour, fontsize=11)
        ends[name] = float(gaps[-1])
    axis.set_yscale("log")
    axis.set(
        xlabel="training step",
        ylabel="relative difference of the losses\nfrom dt.fine_tune's",
        xlim=(-0.5, 1.5 * steps),
        ylim=(bottom / 3, 20),
    )
    axis.set_yticks([bottom, 1e-6, 1e-4, 1e-2, 1], ["0", "$10^{-6}$", "$10^{-4}$", "$10^{-2}$", "1"])
    axis.set_xticks(range(0, steps + 1, 5))
    return describe(
        figure,
        "Relative difference from the library's losses at each training step, logarithmic. At the last step: "
        + "; ".join(f"{name} {gap:.1g}" for name, gap in ends.items())
        + ".",
    )


def loss_ratios(ratios: Mapping[str, Mapping[str, Tensor]], timesteps: Sequence[int]) -> Figure:
    """Loss after tuning over that before, at each timestep: a panel for each set of pictures, a curve for each method."""
    with theme():
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False)[0]
    seen = []
    for axis, (kind, curves) in zip(axes, ratios.items()):
        for method, curve in curves.items():
            axis.plot(timesteps, curve, color=COLOURS[method], marker="o", markersize=4)
            seen.append(
                f"{kind}, {method}: {float(curve[0]):.2f} at t = {timesteps[0]}, {float(curve.min()):.2f} to {float(curve.max()):.2f}"
            )
        axis.axhline(1, color="0.3", linewidth=1)
        axis.set(xlabel="timestep t  (0: data end, 999: noise end)", xlim=(0, 1000))
        axis.set_title(kind, fontsize=13)
    axes[0].set(ylabel="loss after tuning,\ntimes that before", ylim=(0.5, None))
    first = next(iter(ratios.values()))  # labelled where its curves are furthest apart
    widest = int((torch.stack(list(first.values())).amax(0) - torch.stack(list(first.values())).amin(0)).argmax())
    for method, curve in first.items():
        above = curve[widest] == max(float(other[widest]) for other in first.values())
        axes[0].annotate(method, (timesteps[widest], curve[widest]), (-10 if above else 8, 10 if above else -14), textcoords="offset points",
                         ha="right" if above else "left", color=COLOURS[method], fontsize=12)  # fmt: skip
    return describe(figure, f"Loss after tuning over that before, against the timestep. {'; '.join(seen)}.")


def relative_differences(library: Tensor, losses: Tensor) -> Tensor:
    """The larger of the two terms' relative differences at every step that both have done; (steps,)."""
    steps = min(len(library), len(losses))
    library, losses = torch.as_tensor(library)[:steps].double(), torch.as_tensor(losses)[:steps].double()
    return ((losses - library).abs() / library.abs()).amax(1)
