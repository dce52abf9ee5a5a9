"""Figures of lesson 10: losses while one trains, the time that a training takes, the memory that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..adapters.variants import FULL
from ..explorers import Frames, precompute
from ..figures import COLOURS, describe, draw_with_interval, label_ends, step_axis, theme
from ..filmstrip import Strip
from ..memory_bars import memory_bars, name_parts
from .answers import BEFORE, LEARNED, OURS, PLAIN, YOURS, course, over_the_chain
from .costs import (
    CARDS,
    GB,
    LORA,
    PAPER_BATCH,
    PAPER_STEPS,
    UNITS,
    at_a_time,
    duration,
    paper_memory,
    paper_operations,
    smallest_card,
    span,
    times,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

TITLES = {YOURS: "your held-out pictures", BEFORE: "old pictures"}
NAMES = {YOURS: "held out", LEARNED: "trained on", BEFORE: "old pictures"}
AT_A_TIME = (1, 2, 4, 8, 16, 32)
STEPS = (1000, 3000, 10_000, PAPER_STEPS)


def courses_figure(curves: pandas.DataFrame) -> Strip:
    """Loss after / before against training steps, on the reader's held-out pictures and on old ones."""
    with theme():
        figure = Strip(figsize=(9.6, 3.9), layout="constrained")
        axes = figure.subplots(1, 2)
    seen = []
    steps = sorted(curves.step.unique())
    for axis, (data, title) in zip(axes, TITLES.items()):
        ends = []
        for method in (PLAIN, OURS):
            ratios = course(curves, method, data)
            axis.plot(ratios.index, ratios, color=COLOURS[method], marker="o", markersize=5, linewidth=2)
            ends.append((ratios.iloc[-1], method, COLOURS[method]))
            seen.append(f"{title}, {method}: {', '.join(f'{ratio:.2f} after {step}' for step, ratio in ratios.items())}")
        step_axis(axis, steps, room=2.4)
        axis.margins(y=0.15)
        axis.set_title(title, fontsize=12)
        label_ends(axis, ends, x=1.12 * steps[-1])
    axes[0].set_ylabel("loss after / before tuning\n(lower is better)", fontsize=11)
    return describe(figure, f"Loss after over before tuning, by training steps. {'; '.join(seen)}.")


def long_figure(table: pandas.DataFrame) -> Strip:
    """The long runs: loss on held-out pictures, on those trained on (dashed) and on old ones against steps; means and intervals over seeds."""
    with theme():
        figure = Strip(figsize=(10.2, 4.1), layout="constrained")
        axes = figure.subplots(1, 2, width_ratios=(1.35, 1))
    rows, seen = over_the_chain(table), []
    steps = sorted(rows.step.unique())
    for axis, shown, title in ((axes[0], {YOURS: "-", LEARNED: "--"}, "pictures of the folder"), (axes[1], {BEFORE: "-"}, "old pictures")):
        ends = []
        for data, dashes in shown.items():
            for method in (PLAIN, OURS):
                draw_with_interval(
                    axis, rows[(rows.method == method) & (rows.data == data)], "step", "ratio", COLOURS[method], method, log=True
                )
                axis.lines[-1].set_linestyle(dashes)
                ratios = course(table, method, data)
                ends.append((ratios.iloc[-1], f"{method}, {NAMES[data]}" if len(shown) > 1 else method, COLOURS[method]))
                seen.append(f"{method}, {NAMES[data]}: {', '.join(f'{ratio:.2f} after {step}' for step, ratio in ratios.items())}")
        step_axis(axis, steps, room=10 if len(shown) > 1 else 3)
        axis.margins(y=0.15)
        axis.set_title(title, fontsize=12)
        label_ends(axis, ends, x=1.12 * steps[-1])
    axes[0].set_ylabel("loss after / before tuning\n(lower is better)", fontsize=11)
    return describe(figure, f"Loss after over before tuning, by training steps, means of {table.seed.nunique()} runs. {'; '.join(seen)}.")


def tenths_explorer(curves: pandas.DataFrame) -> Frames:
    """The same along the chain, for each number of steps."""
    limits = {data: _limits(curves[curves.data == data].ratio) for data in TITLES}

    def draw(steps: int) -> Strip:
        with theme():
            figure = Strip(figsize=(9.6, 3.7), layout="constrained")
            axes = figure.subplots(1, 2)
        seen = []
        for axis, (data, title) in zip(axes, TITLES.items()):
            axis.axhline(1, color="0.4", linewidth=1)
            ends = []
            for method in (PLAIN, OURS):
                own = curves[(curves.method == method) & (curves.data == data) & (curves.step == steps)].sort_values("tenth")
                axis.plot(own.tenth, own.ratio, color=COLOURS[method], marker="o", markersize=4, linewidth=2)
                ends.append((own.ratio.iloc[-1], method, COLOURS[method]))
                seen.append(f"{title}, {method}: {own.ratio.iloc[0]:.2f} in tenth 1, {own.ratio.iloc[-1]:.2f} in tenth 10")
            axis.set_yscale("log")
            axis.set_ylim(*limits[data])
            _plain_ticks(axis, *limits[data])
            axis.set(xlim=(0.7, 13), xticks=range(1, 11))
            axis.set_title(title, fontsize=12)
            axis.set_xlabel("tenth of the chain (1: least noise)", fontsize=11)
            label_ends(axis, ends, x=10.3)
        axes[0].set_ylabel("loss after / before tuning", fontsize=11)
        return describe(figure, f"After {steps} steps, loss after over before tuning along the chain. {'; '.join(seen)}.")

    return precompute(draw, steps=sorted(curves.step.unique()))


def time_figure(speed: float, steps: int = PAPER_STEPS, pixels: int = 256) -> Strip:
    """How long DiT-XL/2 trains with the paper's batch: a bar for each card, a dot at the `speed` of this machine (operations a second)."""
    work = paper_operations(steps, pixels)
    of_cards = times(work)
    with theme():
        figure = Strip(figsize=(8.6, 3.1), layout="constrained")
        axis = figure.subplots()
    for height, (least, most) in enumerate(of_cards.values()):
        axis.barh(height, most - least, left=least, height=0.55, color=COLOURS["pre-trained"], alpha=0.35)
        axis.text(1.15 * most, height, span(least, most), va="center", fontsize=10)
    own = work / speed
    axis.plot(own, len(CARDS), "o", markersize=9, color="#E69F00", markeredgecolor="black")
    axis.text(own / 1.3, len(CARDS), f"about {duration(own)}", va="center", ha="right", fontsize=10)
    axis.set_yticks(range(len(of_cards) + 1), [*of_cards, "this machine"], fontsize=11)
    axis.set_ylim(-0.6, len(CARDS) + 0.6)
    axis.set_xscale("log")
    axis.set_xlim(20, 20 * UNITS["year"])
    shown = {"1 minute": 60, "1 hour": 3600, "1 day": 86_400, "1 month": UNITS["month"], "1 year": UNITS["year"]}
    axis.set_xticks(list(shown.values()), list(shown), fontsize=10)
    axis.minorticks_off()
    axis.grid(False, axis="y")
    axis.set_title(f"DiT-XL/2, {pixels} pixels: {steps:,} steps of {PAPER_BATCH} pictures", fontsize=12)
    return describe(
        figure,
        f"Time for {steps:,} steps of {PAPER_BATCH} pictures of {pixels} pixels: this machine about {duration(own)}; "
        f"{', '.join(f'{name} {span(*ends)}' for name, ends in of_cards.items())}.",
    )


def time_explorer(speed: float) -> Frames:
    """The same for other numbers of steps and larger pictures."""
    return precompute(lambda steps, pixels: time_figure(speed, steps, pixels), steps=STEPS, pixels=(256, 512))


def memory_figure(trained: str = FULL, pixels: int = 256) -> Strip:
    """The memory of training DiT-XL/2, by the number of pictures that go through it at a time; lines: what the cards have."""
    found = {pictures: at_a_time(paper_memory(trained, pixels), pictures) for pictures in AT_A_TIME}
    with theme():
        figure = Strip(figsize=(8.6, 3.7), layout="constrained")
        axis = figure.subplots()
    ends = memory_bars(axis, list(found.values()), GB)
    for card in CARDS:
        axis.axvline(card.memory, color="0.3", linewidth=1, linestyle=":")
        axis.text(card.memory, -0.75, f" {card.name}", fontsize=10, rotation=20, va="bottom")
    for height, memory in enumerate(found.values()):
        size = smallest_card(memory)
        text = axis.text(ends[height] + 1, height, f"fits {size} GB" if size else "too much", va="center", fontsize=10)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # above the cards' lines
    axis.set_yticks(range(len(found)), [str(pictures) for pictures in found], fontsize=11)
    axis.set_ylabel("pictures at a time", fontsize=11)
    axis.set_xlim(0, 112)
    axis.set_xlabel("GB", fontsize=11)
    figure.suptitle(f"DiT-XL/2, {pixels} pixels, training {trained}", fontsize=12)
    name_parts(figure, axis)
    seen = ", ".join(f"{pictures} at a time {memory.total / GB:.0f}" for pictures, memory in found.items())
    return describe(
        figure, f"Memory in GB to train {trained} of DiT-XL/2 at {pixels} pixels: {seen}. The cards have {[card.memory for card in CARDS]}."
    )


def memory_explorer() -> Frames:
    """The same for all weights or LoRA, at either size of the pictures."""
    return precompute(lambda trained, pixels: memory_figure(trained, pixels), trained=[FULL, LORA], pixels=(256, 512))


def _limits(ratios: pandas.Series) -> tuple[float, float]:
    low, high = min(ratios.min(), 1), max(ratios.max(), 1)
    room = 1.12
    return low / room, high * room


def _plain_ticks(axis: Axes, low: float, high: float) -> None:
    ticks = [tick for tick in (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20) if low <= tick <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)
