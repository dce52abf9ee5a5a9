"""Everything that lesson 08 imports, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...data.captions import CaptionAs
from ...data.conditions import KINDS
from ...studies.control_gains import distance_lower
from ...studies.gains import read_table
from ..chain.figures import ratios_by_method
from ..expectations import in_markdown
from ..explorers import explore, precompute
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..predictions import predict
from . import figures
from .answers import (
    TURNS,
    answer_in_words,
    costs_in_words,
    parts_in_words,
    rise_in_words,
    turn_in_words,
)
from .drawing import outlines, picture_of
from .expected import expected
from .runs import kept_drawings, own_and_others, read_runs, shown_set
from .two_gates import PARTS, two_gate_start

if TYPE_CHECKING:
    import pandas

    from .runs import Runs

__all__ = [
    "in_markdown", "KINDS", "CaptionAs", "PARTS", "TURNS", "answer_in_words", "costs_in_words", "distance_lower", "empty_folder", "expected", "explore", "figures", "filmstrip", "first_gradient",
    "kept_drawings", "losses_by_side", "outlines", "own_and_others", "parts_in_words", "picture_of", "picture_rows", "precompute",
    "predict", "ratios_by_method", "read_runs", "read_table", "rise_in_words", "shown_set",
    "turn_in_words", "two_gate_start",
]  # fmt: skip


def first_gradient(gates: pandas.DataFrame) -> list[str]:
    """The parts whose gradient is not zero in the first step."""
    first = gates[(gates.step == gates.step.min()) & (gates.gradient > 0)]
    return first.part.tolist()


def losses_by_side(runs: Runs) -> dict[str, pandas.DataFrame]:
    """Losses along the chain on new and old held-out pictures, plain and by Diff-Tuning: for each seed the means over the conditions."""
    main = runs.losses[runs.losses.method.isin(["plain", "Diff-Tuning"])]
    means = main.groupby(["data", "method", "seed", "tenth"], as_index=False, sort=False)[["before", "after"]].mean()
    return {name: means[means.data == data] for name, data in (("new pictures", "target"), ("old pictures", "source"))}
