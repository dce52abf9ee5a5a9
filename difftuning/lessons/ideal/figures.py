"""Figures of lesson 01: how many pictures an ideal denoiser averages, who denoises a task's pictures, errors in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

from torch import Tensor

from ..figures import COLOURS, SOURCE, TASK, Figure, describe, draw_with_interval, picture_rows, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

DENOISERS = {  # name in the table: label, colour, line style
    "ideal": ("whole pictures (the theorem)", "#882255", "-"),
    "patches": ("windows, size chosen on the source", "#E69F00", "-"),
    "gaussian": ("mean and covariance only", "#44AA99", "--"),
    "network": ("the pre-trained network", COLOURS["pre-trained"], "-"),
    "left": ("left as it is", "0.5", ":"),
}
CLOUD_STYLES = [("0.75", 4), (TASK, 26), ("#E69F00", 14)]  # colour, size
ERROR = "squared error of $x_0$\nper latent number"
TIMESTEP = "timestep t (0 = least noise)"


def averaging_curves(counts: Mapping[str, tuple[Sequence[int], Sequence[float]]], *, largest: int | None = None) -> Figure:
    """The effective number of pictures in the average against t; `counts` has (timesteps, numbers) by set.

    `largest` fixes the upper end of the axis, for frames of sets of several sizes.
    """
    figure, axis = _one_panel()
    for (name, (timesteps, numbers)), colour in zip(counts.items(), (TASK, SOURCE)):
        axis.plot(timesteps, numbers, marker="o", markersize=4, color=colour, label=name)
    top = largest or max(max(numbers) for _, numbers in counts.values())
    axis.set(xlabel=TIMESTEP, ylabel="pictures in the average\n(effective number)", yscale="log", ylim=(0.8, 1.5 * top))
    _plain_numbers(axis.yaxis)
    axis.legend(fontsize=10, loc="upper left")
    seen = "; ".join(f"{name}: from {own[0]:.0f} at t = {t[0]} to {own[-1]:.0f} at t = {t[-1]}" for name, (t, own) in counts.items())
    return describe(figure, f"How many pictures the ideal denoiser averages, against the timestep. {seen}.")


def denoised_pictures(rows: Mapping[str, Tensor], t: int) -> Figure:
    """One row for each denoiser of the same noisy pictures; images (N, 3, H, W), the clean pictures first."""
    figure = picture_rows(rows, title=f"t = {t}", columns=len(next(iter(rows.values()))))
    (_, clean), *others = rows.items()
    away = ", ".join(f"{name} {float((images - clean).square().mean()):.2f}" for name, images in others)
    return describe(figure, f"Pictures, noised to t = {t}, and what denoisers make of them. Squared distance from the picture: {away}.")


def error_curves(table: pandas.DataFrame, task: str, source_size: int) -> Figure:
    """Error of each denoiser on a task's pictures against t, with 95 % intervals over pictures; `table` is a `comparison`."""
    figure, axis = _one_panel()
    rows = table[(table.task == task) & ((table.source_size == source_size) | (table.denoiser == "network"))]
    for name, (label, colour, style) in DENOISERS.items():
        own = rows[rows.denoiser == name].sort_values("t")
        if len(own):
            look = {"color": colour, "linestyle": style, "marker": "" if name == "left" else "o", "markersize": 4, "label": label}
            axis.errorbar(own.t, own.error, 1.96 * own.standard_error, **look)
    title = f"{task}: closed forms over {source_size:,} source pictures"
    axis.set(xlabel=TIMESTEP, ylabel=ERROR, yscale="log", ylim=_limits(table), title=title)
    _plain_numbers(axis.yaxis)
    axis.legend(fontsize=10, loc="lower right")
    seen = []
    for t in (rows.t.min(), rows.t.max()):
        errors = rows[rows.t == t].set_index("denoiser").error.sort_values()
        seen.append(f"at t = {t}, from the lowest: " + ", ".join(f"{DENOISERS[name][0]} {error:.2g}" for name, error in errors.items()))
    return describe(figure, f"Error on {task} against the timestep, closed forms over {source_size} source pictures; {'; '.join(seen)}.")


def size_curves(table: pandas.DataFrame, task: str, timesteps: tuple[int, ...] = (60, 200, 500)) -> Figure:
    """The same errors against the size of the source set, one panel for each timestep."""
    with theme():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        axes = figure.subplots(1, len(timesteps), sharey=True)
    sizes, seen = sorted(table.source_size.unique()), []
    for axis, t in zip(axes, timesteps):
        rows = table[(table.task == task) & (table.t == t)]
        for name, (label, colour, style) in DENOISERS.items():
            own = rows[rows.denoiser == name].sort_values("source_size")
            if name in ("network", "left"):  # neither depends on the source's size
                axis.axhline(float(own.error.iloc[0]), color=colour, linestyle=style, label=label)
            else:
                axis.plot(own.source_size, own.error, color=colour, linestyle=style, marker="o", markersize=4, label=label)
            if name == "ideal":
                seen.append(f"at t = {t} whole pictures go from {own.error.iloc[0]:.2g} to {own.error.iloc[-1]:.2g}")
        axis.set(title=f"t = {t}", xscale="log", xlabel="source pictures", yscale="log", ylim=_limits(table[table.t.isin(timesteps)]))
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.xaxis.minorticks_off()
    _plain_numbers(axes[0].yaxis)
    axes[0].set_ylabel(ERROR)
    figure.suptitle(task, fontsize=13)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=10)
    return describe(figure, f"Error on {task} against the number of source pictures, {sizes[0]} to {sizes[-1]}: {'; '.join(seen)}.")


def plane(clouds: Mapping[str, Tensor], *, title: str = "") -> Figure:
    """Clouds of points (N, 2) by name, the first one pale; the axes are the first cloud's."""
    with theme():
        figure = Figure(figsize=(5.2, 4.8), layout="constrained")
        axis = figure.subplots()
    for (name, points), (colour, size) in zip(clouds.items(), CLOUD_STYLES):
        axis.scatter(*points.T.numpy(), s=size, color=colour, label=name, linewidths=0)
    reach = 1.05 * float(next(iter(clouds.values())).abs().max())
    axis.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), title=title)
    figure.legend(loc="outside lower center", ncols=1 if len(clouds) > 2 else 2, fontsize=10, markerscale=2)
    means = {name: points.mean(0).tolist() for name, points in clouds.items()}
    seen = [f"{name} around ({x:.1f}, {y:.1f}), spread {clouds[name].std(0).norm():.1f}" for name, (x, y) in means.items()]
    return describe(figure, f"Points in the plane{', ' if title else ''}{title}: {'; '.join(seen)}.")


def own_error_curves(table: pandas.DataFrame, step: int, data: str, live: pandas.DataFrame | None = None) -> Figure:
    """Own error as a share of the unavoidable loss against t, after `step` steps on `data`.

    Geometric mean over seeds and its 95 % interval; `live` has one run's rows; they are drawn as stars.
    """
    with theme():
        figure = Figure(figsize=(7.2, 4.9), layout="constrained")
        axis = figure.subplots()
    shown, seen = table[(table.data == data) & table.step.isin([0, step])], []
    star = {"linestyle": "none", "marker": "*", "markersize": 11, "markeredgecolor": "white"}
    for method, colour in COLOURS.items():
        rows = shown[shown.method == method]
        if rows.empty:
            continue
        style = "--" if method == "pre-trained" else "-"
        draw_with_interval(axis, rows.assign(error=100 * rows.error), "t", "error", colour, method, style=style, log=True)
        middle = (100 * rows.groupby("t").error.median()).iloc[[0, -1]]
        seen.append(f"{method} {middle.iloc[0]:.3g} and {middle.iloc[1]:.3g} %")
        if live is not None and len(own := live[(live.method == method) & (live.data == data)]):
            axis.plot(own.t, 100 * own.error, color=colour, **star)
    if live is not None:
        axis.plot([], [], color="0.4", **star, label="your runs")
    everything = 100 * table.error[table.data == data]
    axis.set(
        xlabel=TIMESTEP, xscale="log", yscale="log", ylim=(everything.min() / 1.5, everything.max() * 1.5),
        ylabel="own error, % of the\nunavoidable loss", title=f"{data}, after {step} steps",
    )  # fmt: skip
    axis.set_xticks([t for t in (5, 20, 50, 100, 300, 700) if t in set(table.t)])
    axis.xaxis.minorticks_off()
    _plain_numbers(axis.xaxis, axis.yaxis)
    figure.legend(loc="outside lower center", ncols=3, fontsize=10)
    ends = f"at t = {shown.t.min()} and {shown.t.max()}, medians over seeds"
    return describe(figure, f"Own error on the {data} against the timestep, after {step} steps; {ends}: {', '.join(seen)}.")


def _limits(table: pandas.DataFrame) -> tuple[float, float]:
    """Of a logarithmic axis that holds every denoiser; doing nothing may leave it."""
    errors = table.error[table.denoiser.ne("left")]
    return errors.min() / 1.5, errors.max() * 1.5


def _plain_numbers(*sides: Axis) -> None:
    """100 instead of 10^2."""
    for side in sides:
        side.set_major_formatter("{x:g}")


def _one_panel() -> tuple[Figure, Axes]:
    with theme():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        return figure, figure.subplots()
