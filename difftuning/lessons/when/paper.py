"""The table of Diff-Tuning's paper, and how sure each figure is.

FID of DiT-XL/2 on eight sets, 24,000 steps at batch 32, guidance 1.5 (Zhong et al., NeurIPS 2024).  `sure`: read in a source; otherwise
approximate: recalled, and checked only against the mean of its column and the 26 % of the abstract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..figures import COLOURS, Figure, describe, theme
from ..filmstrip import Strip

if TYPE_CHECKING:
    import pandas


class Published(NamedTuple):
    """A row of the paper's table: FID of plain fine-tuning and of Diff-Tuning, and the pictures of the usual training split."""

    plain: float
    ours: float
    pictures: int | None  # not known for certain where None
    sure: tuple[bool, bool] = (False, True)

    @property
    def lower(self) -> float:
        """By how many per cent Diff-Tuning's FID is lower."""
        return 100 * (1 - self.ours / self.plain)

    @property
    def texts(self) -> tuple[str, str]:
        """Both figures, with a ~ where one is approximate."""
        return tuple(f"{'' if sure else '~'}{value:.2f}" for value, sure in zip((self.plain, self.ours), self.sure))


TABLE = {
    "Food101": Published(10.68, 6.05, 75_750),
    "SUN397": Published(11.01, 7.21, 76_128),
    "DF-20M": Published(14.74, 12.57, None),
    "Caltech101": Published(29.79, 23.79, 9_100),
    "CUB-200": Published(5.32, 3.50, 5_994),
    "ArtBench": Published(20.59, 13.85, 50_000),
    "Flowers": Published(16.67, 12.64, 1_020),
    "Stanford Cars": Published(6.04, 5.37, 8_144, (False, False)),
}
MEAN = Published(14.36, 10.63, None)
CLAIM = 26  # per cent lower on average, as the first versions of the abstract say


def paper_table() -> pandas.DataFrame:
    """The paper's table as text, the largest gain first, and its mean."""
    import pandas

    rows = {}
    for name, row in [*sorted(TABLE.items(), key=lambda item: -item[1].lower), ("mean", MEAN)]:
        pictures = f"{row.pictures:,}" if row.pictures else "–"
        rows[name] = {"training pictures": pictures, "plain": row.texts[0], "Diff-Tuning": row.texts[1], "lower by": f"{row.lower:.0f} %"}
    return pandas.DataFrame(rows).T


def size_correlation() -> tuple[float, int]:
    """Spearman's rank correlation of the paper's gain with the number of training pictures, and over how many sets."""
    from scipy.stats import spearmanr

    known = [(row.pictures, row.lower) for row in TABLE.values() if row.pictures]
    return float(spearmanr(*zip(*known)).statistic), len(known)


def paper_figure() -> Figure:
    """FID of plain fine-tuning (hollow: approximate) and of Diff-Tuning on the paper's eight sets, the largest gain first."""
    rows = sorted(TABLE.items(), key=lambda item: -item[1].lower)
    with theme():
        figure = Strip(figsize=(8.6, 4.3), layout="constrained")
        axis = figure.subplots()
    for place, (_, row) in enumerate(rows):
        axis.plot([row.plain, row.ours], [place, place], color="0.75", linewidth=3, zorder=1)
        for value, sure, name in zip((row.plain, row.ours), row.sure, ("plain", "Diff-Tuning")):
            colour = COLOURS[name]
            face = colour if sure else "white"
            axis.plot(value, place, "o", markersize=9, color=colour, markerfacecolor=face, markeredgewidth=1.8, zorder=2)
        axis.text(row.plain + 0.6, place, f"{row.lower:.0f} % lower", va="center", fontsize=11, color="0.25")
    axis.text(rows[0][1].plain, -0.42, "plain", color=COLOURS["plain"], fontsize=11, ha="center", va="bottom", fontweight="bold")
    axis.text(rows[0][1].ours, -0.42, "Diff-Tuning", color=COLOURS["Diff-Tuning"], fontsize=11, ha="center", va="bottom", fontweight="bold")
    axis.set(xlim=(0, 36), ylim=(len(rows) - 0.5, -1.1))
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=11)
    axis.set_xlabel("FID on DiT-XL/2, as the paper prints it (left is better)", fontsize=11)
    axis.grid(False, axis="y")
    seen = ", ".join(f"{name} {' to '.join(row.texts)}" for name, row in rows)
    return describe(figure, f"The paper's FID by plain fine-tuning and by Diff-Tuning, ~ approximate: {seen}.")
