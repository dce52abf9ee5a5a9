"""Figures of lesson 02: the loss ratio along the chain, replaced denoisers, what pre-training has taught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from ..figures import COLOURS, SOURCE, TASK, Figure, describe, draw_with_interval, label_ends, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

WORSE, BETTER = "#FBE9E0", "#E4EEF6"  # where tuning has raised the loss, and where it has lowered it
SETS = {"source": SOURCE, "footwear": "#CC6677", "digits": TASK}  # Paul Tol's muted colours
TENTHS = range(1, 11)


class Line(NamedTuple):
    """One curve along the chain: rows with `tenth`, `ratio` and, where there are several, `seed`."""

    label: str
    rows: pandas.DataFrame
    colour: str


def ratios_by_steps(panels: Mapping[str, pandas.DataFrame], *, title: str = "") -> Figure:
    """Loss after / before in each tenth of the chain: a panel for each table of one method, a curve for each number of training steps.

    The tables have the columns method, seed, step, tenth, before, after.  The longer the training, the darker the curve.
    """
    lines = {}
    for name, table in panels.items():
        (method,) = table.method.unique()
        steps = sorted(table.step.unique())
        shades = [_mixed(COLOURS[method], share) for share in np.linspace(0.5, 1, len(steps))]
        lines[name] = [Line(f"{step:,} steps", _rows(table[table.step == step]), colour) for step, colour in zip(steps, shades)]
    return _along_the_chain(lines, title)


def ratios_by_method(panels: Mapping[str, pandas.DataFrame], *, title: str = "", limits: tuple[float, float] | None = None) -> Figure:
    """Loss after / before in each tenth of the chain: a panel for each table of one number of steps, a curve for each method.

    `limits` of the ratio hold the scale still where several figures are compared.
    """
    lines = {
        name: [Line(method, _rows(rows), COLOURS[method]) for method, rows in table.groupby("method", sort=False)]
        for name, table in panels.items()
    }
    return _along_the_chain(lines, title, limits)


def falls(table: pandas.DataFrame) -> np.ndarray:
    """1 - loss after / before in each tenth of the chain, mean over the rows of a tenth; (10,)."""
    return 1 - (table.after / table.before).groupby(table.tenth).mean().to_numpy()


def _rows(table: pandas.DataFrame) -> pandas.DataFrame:
    return table.assign(ratio=table.after / table.before)


def _along_the_chain(panels: Mapping[str, Sequence[Line]], title: str, limits: tuple[float, float] | None = None) -> Figure:
    if limits is None:
        ratios = np.concatenate([line.rows.ratio for lines in panels.values() for line in lines])
        limits = _around(ratios)
    figure, axes = _panels(panels)
    every = [line for lines in panels.values() for line in lines]
    left = _spread(every, 1) > _spread(every, 10)  # the labels stand where the curves are further apart
    for axis, lines in zip(axes, panels.values()):
        falling = _at(lines, 1) > _at(lines, 10)
        upper, lower = ("right", "left") if falling else ("left", "right")
        _better_and_worse(axis, limits, (0.6, 10.4), upper, lower)
        for line in lines:
            draw_with_interval(axis, line.rows, "tenth", "ratio", line.colour, line.label, log=True)
        ends = [(_mean(line, 1 if left else 10), line.label, line.colour) for line in lines]
        label_ends(axis, ends, x=0.75 if left else 10.25, side="left" if left else "right")
        _chain_axis(axis, left)
    axes[0].set_ylabel("held-out loss, after / before tuning")
    if title:
        figure.suptitle(title, fontsize=13)
    seen = "; ".join(f"{name}: {', '.join(map(_ends, lines))}" for name, lines in panels.items())
    return describe(
        figure, f"Loss after over before tuning, in the first and the last tenth of the chain. {title + ': ' if title else ''}{seen}."
    )


def _around(ratios: np.ndarray) -> tuple[float, float]:
    """Limits with all ratios between them, and both sides of 1."""
    return min(0.8, ratios.min() / 1.06), max(1.12, ratios.max() * 1.06)


def _panels(names: Iterable[str]) -> tuple[Figure, np.ndarray]:
    """A row of axes that share their scale, with these titles."""
    names = list(names)
    with theme():
        figure = Figure(figsize=(1.6 + 4.4 * len(names), 4.2), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names):
        axis.set_title(name, fontsize=13)
    return figure, axes


def _at(lines: Sequence[Line], tenth: int) -> float:
    """The highest ratio of a panel in one tenth."""
    return max(line.rows[line.rows.tenth == tenth].ratio.max() for line in lines)


def _mean(line: Line, tenth: int) -> float:
    """The geometric mean of a curve's ratios in one tenth."""
    return float(np.exp(np.log(line.rows[line.rows.tenth == tenth].ratio).mean()))


def _spread(lines: Sequence[Line], tenth: int) -> float:
    """How many times as high the highest of the curves is as the lowest."""
    means = [_mean(line, tenth) for line in lines]
    return max(means) / min(means)


def _better_and_worse(
    axis: Axes, limits: tuple[float, float], across: tuple[float, float], upper: str, lower: str, beside: str = "before"
) -> None:
    """A log scale on which halving and doubling look alike; its two sides are named in corners that curves leave free, `upper` and `lower` "left" or "right".

    The line between them goes `across` the curves, and not through their labels.
    """
    axis.set_yscale("log")
    axis.set_ylim(*limits)
    axis.axhspan(1, limits[1], color=WORSE, zorder=0)
    axis.axhspan(limits[0], 1, color=BETTER, zorder=0)
    axis.plot(across, (1, 1), color="0.3", linewidth=1, zorder=1)
    x = {"left": 0.02, "right": 0.98}
    axis.text(x[upper], 0.97, f"worse than {beside}", va="top", ha=upper, transform=axis.transAxes, fontsize=10, color="#8A3B12")
    axis.text(x[lower], 0.03, f"better than {beside}", va="bottom", ha=lower, transform=axis.transAxes, fontsize=10, color="#1F4E79")
    _plain_ratios(axis)


def _plain_ratios(axis: Axes) -> None:
    """Ratios on a log scale, written as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_ylim()
    fine, coarse = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4, 6, 8), (0.5, 1, 2, 5, 10, 20, 50, 100)
    ticks = fine if high < 30 * low else coarse
    axis.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _chain_axis(axis: Axes, left: bool = False) -> None:
    axis.set_xlim(*((-2, 10.4) if left else (0.6, 13)))  # room for the labels at that end
    axis.set_xticks(TENTHS)
    axis.set_xlabel("tenth of the chain\n← data end          noise end →")


def _ends(line: Line) -> str:
    return f"{line.label} {_mean(line, 1):.2f} and {_mean(line, 10):.2f}"


def _mixed(colour: str, share: float) -> str:
    from matplotlib.colors import to_hex, to_rgb

    return to_hex(1 - share * (1 - np.array(to_rgb(colour))))


def replacement_curves(scores: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str = "") -> Figure:
    """Distance of a tuned model's samples against the share of the last steps that somebody else does; {who: (shares, distances)}."""
    with theme():
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axis = figure.subplots()
    looks = (("-", COLOURS["pre-trained"], "right", "bottom"), (":", COLOURS["plain"], "left", "top"))
    for (who, (shares, distances)), (style, colour, side, height) in zip(scores.items(), looks):
        shares = [100 * share for share in shares]
        axis.plot(shares, distances, marker="o", linestyle=style, color=colour)
        shift = (-8 if side == "right" else 6, -4)
        axis.annotate(who, (shares[-1], distances[-1]), shift, textcoords="offset points", ha=side, va=height, color=colour)
    axis.set(xlabel="last steps of the chain that are replaced, %", ylabel="Frechet distance to the task\n(lower is better)", title=title)
    axis.set_ylim(bottom=0)
    seen = "; ".join(
        f"{who}: " + ", ".join(f"{share:.0%} {distance:.1f}" for share, distance in zip(*points)) for who, points in scores.items()
    )
    return describe(figure, f"Frechet distance against the share of the last steps that is replaced. {seen}.")


def replacement_by_steps(panels: Mapping[str, pandas.DataFrame], *, title: str = "", limits: tuple[float, float] | None = None) -> Figure:
    """What samples lose when the untouched model does the last steps: a panel for each table of one method, a curve for each number of training steps.

    The tables have the columns method, step, fraction, fid.  The distance is divided by that of the tuned model alone (`beside_alone`).
    `limits` of that ratio hold the scale still where several figures are compared.
    """
    figure, axes = _panels(panels)
    seen, ends, last = [], [], round(100 * max(table.fraction.max() for table in panels.values()))
    for axis, (name, table) in zip(axes, panels.items()):
        (method,) = table.method.unique()
        curves = beside_alone(table)
        ends.append([])
        for share, (step, ratios) in zip(np.linspace(0.5, 1, len(curves)), curves.items()):
            colour, label = _mixed(COLOURS[method], share), f"{step:,} steps"
            axis.plot(100 * ratios.index, ratios, marker="o", markersize=4, color=colour)
            ends[-1].append((ratios.iloc[-1], label, colour))
            seen.append(f"{name}, {label}: " + ", ".join(f"{fraction:.0%} {ratio:.2f}" for fraction, ratio in ratios.items()))
    ratios = np.concatenate([line.get_ydata() for axis in axes for line in axis.lines])
    limits = limits or _around(ratios)
    for axis, of_panel in zip(axes, ends):
        _better_and_worse(axis, limits, (-2, last + 2), "left", "left", beside="the tuned model alone")
        axis.set_xlim(-0.03 * last, 1.5 * last)
        axis.set_xticks(range(0, last + 1, 20))
        axis.set_xlabel("last steps of the chain that are replaced, %")
        label_ends(axis, of_panel, x=1.03 * last)
    axes[0].set_ylabel("Frechet distance,\nover that of the tuned model alone")
    if title:
        figure.suptitle(title, fontsize=13)
    return describe(
        figure, f"Frechet distance over that of the tuned model alone, by the share of the last steps that is replaced. {'; '.join(seen)}."
    )


def beside_alone(table: pandas.DataFrame) -> dict[int, pandas.Series]:
    """Training step -> the distance over that of the tuned model alone, by the fraction of reverse steps replaced; mean over the seeds."""
    found = {}
    for step, rows in table.groupby("step"):
        distance = rows.groupby("fraction").fid.mean()
        found[step] = distance / distance[0]
    return found


def pretraining_curves(transfer: pandas.DataFrame) -> Figure:
    """How much more pre-training lowers the loss in each tenth, of the source and of tasks that it never saw.

    `transfer` has the columns step, pictures (source or a task), tenth, loss; its first checkpoint is compared with its last.
    """
    with theme():
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axis = figure.subplots()
    seen, ends = [], []
    for (name, colour), width in zip(SETS.items(), (9, 2.2, 2.2)):
        by_tenth = transfer[transfer.pictures == name].groupby("tenth", sort=True).loss
        falls = 100 * (1 - by_tenth.last() / by_tenth.first())
        faint = {"alpha": 0.45, "solid_capstyle": "round"} if name == "source" else {"marker": "o", "markersize": 5}
        axis.plot(falls.index, falls, color=colour, linewidth=width, **faint)
        ends.append((falls.iloc[-1], f"{name}, held out" if name == "source" else name, colour))
        seen.append(f"{name} {falls.iloc[0]:.0f} % in tenth 1, {falls.iloc[-1]:.0f} % in tenth 10")
    axis.set(ylabel="fall of the loss, %")
    axis.set_ylim(bottom=0)
    label_ends(axis, ends, x=10.3)
    _chain_axis(axis)
    return describe(figure, f"Fall of the untouched model's loss between an early checkpoint and the last one: {'; '.join(seen)}.")
