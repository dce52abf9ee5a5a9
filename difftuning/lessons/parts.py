"""What a choice does to tuning: losses along the chain and scores of samples, method by method (lessons 04 and 05).

The runs are those of the study "parts": every method with the same steps, pictures, starting noise and learning rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

from ..studies.gains import Estimate, estimate, read_table
from .figures import COLOURS, Figure, describe, theme
from .filmstrip import Strip

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

RUNS = {"footwear": 2000, "digits": 200}  # training pictures of each task
STEPS, GUIDANCE, SPLIT = 800, "1.5", "test"
SIDES = {"target": "new pictures (target, held out)", "source": "old pictures (source, held out)"}
MORE_COLOURS = {
    "weightings swapped": "#E69F00",
    "weighted, not sampled": "#882255",
    "Diff-Tuning, own labels": "#882255",
    "bank of 100": "#E69F00",
    "bank of far classes": "#117733",
    "bank of noise": "#777777",
}
LEAST_SEEDS = 3  # for an interval


class Parts(NamedTuple):
    """Scores of samples (a row for each task, method and seed) and losses along the chain (for each tenth and kind of pictures, too)."""

    scores: pandas.DataFrame
    losses: pandas.DataFrame

    @property
    def tasks(self) -> list[str]:
        """Those of `RUNS` that the tables hold."""
        return [task for task in RUNS if (self.losses.task == task).any()]


def read_parts() -> Parts:
    """The two tables of the study, its final step alone; scores at guidance 1.5 on the test split."""
    scores, losses = (_of_these_runs(read_table(name)) for name in ("parts", "parts_losses"))
    return Parts(scores[(scores.guidance == GUIDANCE) & (scores.split == SPLIT)], losses[losses.data.isin(list(SIDES))])


def _of_these_runs(table: pandas.DataFrame) -> pandas.DataFrame:
    wanted = table.task.map(RUNS).astype("Int64").astype(str) == table.training_pictures.astype(str)
    return table[wanted & (table.step == STEPS)]


def ratios(parts: Parts, task: str, data: str, method: str, tenths: Sequence[int] = range(1, 11)) -> Estimate:
    """The logarithm of loss after / loss before, its mean over these tenths: an estimate over seeds."""
    rows = parts.losses[(parts.losses.task == task) & (parts.losses.data == data) & (parts.losses.method == method)]
    rows = rows[rows.tenth.isin(list(tenths))]
    return estimate(np.log(rows.after / rows.before).groupby(rows.seed).mean().to_numpy())


def ratio(parts: Parts, task: str, data: str, method: str, tenths: Sequence[int] = range(1, 11)) -> float:
    """Loss after / loss before: the geometric mean over tenths and seeds."""
    return float(np.exp(ratios(parts, task, data, method, tenths).mean))


def score(parts: Parts, task: str, method: str) -> Estimate:
    """Frechet distance of a method's samples; lower is better."""
    rows = parts.scores[(parts.scores.task == task) & (parts.scores.method == method)]
    return estimate(rows.fid.to_numpy())


def seeds_in_words(parts: Parts) -> str:
    """How many runs there are of each method: "one seed", "3 seeds" or "1 to 5 seeds", and what is drawn of it."""
    counts = parts.scores.groupby(["task", "method"]).seed.nunique()
    least, most = int(counts.min()), int(counts.max())
    if most == 1:
        return "One seed: a small difference may be chance."
    words = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    interval = "bands and bars are 95 % intervals" if most >= LEAST_SEEDS else "too few for an interval"
    alone = ", and a mark without one is a single run" if least == 1 and most >= LEAST_SEEDS else ""
    return f"Means over {words}; {interval}{alone}."


def loss_figure(parts: Parts, methods: Sequence[str]) -> Figure:
    """Held-out loss after / before tuning in each tenth of the chain: a row for each task, new pictures left and old ones right."""
    with theme():
        figure = Strip(figsize=(10.2, 0.4 + 3 * len(parts.tasks)), layout="constrained")
        axes = figure.subplots(len(parts.tasks), len(SIDES), sharex=True, sharey="row", squeeze=False)
    for row, task in enumerate(parts.tasks):
        ends = []
        for axis, (data, title) in zip(axes[row], SIDES.items()):
            widths = np.linspace(4, 1.6, len(methods))  # wide ones below, so that none hides another
            lines = {method: _loss_line(axis, parts, task, data, method, width) for method, width in zip(methods, widths)}
            ends.append({method: values[-1] for method, values in lines.items() if len(values)})
            axis.axhline(1, color="0.35", linewidth=1)
            if not row:
                axis.set_title(title, fontsize=12)
        _ratio_scale(axes[row, 0])
        axes[row, 0].set_ylabel(f"{task}, {RUNS[task]:,} pictures\nloss after / before (log)", fontsize=11)
        _names_at_the_end(axes[row, -1], ends[-1])
        axes[row, 0].text(0.6, 0.97, "unchanged", fontsize=9, color="0.35", va="top")
    for axis in axes[-1]:
        axis.set_xticks(range(1, 11))
        axis.set_xlabel("tenth of the chain (1: least noise, 10: most)", fontsize=11)
    figure.supxlabel(seeds_in_words(parts), fontsize=10, color="0.35")
    found = (
        f"{task}: " + ", ".join(f"{method} {ratio(parts, task, 'target', method):.2f} new and {ratio(parts, task, 'source', method):.2f} old"
                                for method in methods)
        for task in parts.tasks
    )  # fmt: skip
    return describe(
        figure, f"Held-out loss after tuning over that before, by tenth of the chain. Means over the chain: {'; '.join(found)}."
    )


def score_figure(parts: Parts, methods: Sequence[str]) -> Figure:
    """Frechet distance of each method's samples, a panel for each task; the dashed line is plain fine-tuning."""
    with theme():
        figure = Strip(figsize=(10.2, 0.42 * len(methods) + 1.5), layout="constrained")
        axes = figure.subplots(1, len(parts.tasks), sharey=True, squeeze=False)[0]
    for axis, task in zip(axes, parts.tasks):
        for place, method in enumerate(methods):
            _score_mark(axis, parts, task, method, place)
        plain = score(parts, task, "plain")
        if plain.seeds:
            axis.axvline(plain.mean, color=_colour("plain"), linestyle="--", linewidth=1.2, zorder=0)
        axis.set(xlabel="Frechet distance at guidance 1.5 (left is better)", title=f"{task}, {RUNS[task]:,} pictures")
        axis.title.set_fontsize(12)
        axis.xaxis.label.set_fontsize(11)
        axis.margins(x=0.12)
    axes[0].set_yticks(range(len(methods)), methods, fontsize=11)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    for label, method in zip(axes[0].get_yticklabels(), methods):
        label.set_color(_colour(method))
    figure.supxlabel(seeds_in_words(parts), fontsize=10, color="0.35")
    found = (f"{task}: " + ", ".join(f"{method} {score(parts, task, method).mean:.2f}" for method in methods) for task in parts.tasks)
    return describe(figure, f"Frechet distance of samples at guidance 1.5, lower is better. {'; '.join(found)}.")


def _loss_line(axis: Axes, parts: Parts, task: str, data: str, method: str, width: float) -> np.ndarray:
    found = [ratios(parts, task, data, method, [tenth]) for tenth in range(1, 11)]
    if not found[0].seeds:
        return np.empty(0)
    means, halves = np.array([one.mean for one in found]), np.array([one.half_width for one in found])
    axis.plot(range(1, 11), np.exp(means), color=_colour(method), marker="o", markersize=width + 2, linewidth=width)
    if found[0].seeds >= LEAST_SEEDS:
        axis.fill_between(range(1, 11), np.exp(means - halves), np.exp(means + halves), color=_colour(method), alpha=0.15, linewidth=0)
    return np.exp(means)


def _ratio_scale(axis: Axes) -> None:
    """A log axis on which half and twice lie equally far from 1."""
    axis.set_yscale("log", base=2)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.45), max(high, 1.3))
    ticks = [tick for tick in (0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8) if axis.get_ylim()[0] <= tick <= axis.get_ylim()[1]]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _names_at_the_end(axis: Axes, ends: dict[str, float]) -> None:
    """Each line's name right of its end, moved up where two would touch."""
    low, high = np.log(axis.get_ylim())
    room, place = 0.085 * (high - low), -np.inf
    for method, value in sorted(ends.items(), key=lambda item: item[1]):
        place = max(np.log(value), place + room)
        axis.annotate(method, (10, value), xytext=(10.35, np.exp(place)), color=_colour(method), fontsize=11, va="center",
                      annotation_clip=False)  # fmt: skip


def _score_mark(axis: Axes, parts: Parts, task: str, method: str, place: int) -> None:
    rows = parts.scores[(parts.scores.task == task) & (parts.scores.method == method)]
    if not len(rows):
        return
    found, colour = score(parts, task, method), _colour(method)
    if found.seeds >= LEAST_SEEDS:
        axis.errorbar([found.mean], [place], xerr=[found.half_width], color=colour, linewidth=2, capsize=4)
    axis.plot(rows.fid, [place] * len(rows), color=colour, marker="|", markersize=9, linestyle="none", alpha=0.6)
    axis.plot([found.mean], [place], color=colour, marker="o", markersize=9, linestyle="none")


def _colour(method: str) -> str:
    return (COLOURS | MORE_COLOURS)[method]
