"""Everything that lesson 06 imports, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...studies.expected import baselines_found
from ...studies.gains import read_table
from ...support.world import data_folder
from ...training.objective import Penalty
from ..expectations import expectations_table, in_markdown
from ..explorers import explore
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..parts import runs_in_words
from ..predictions import predict
from .answers import (
    STANDS,
    STOPS,
    answer_in_words,
    beside_plain,
    convergence_in_words,
    guide_in_words,
    holds_best,
    margins_in_words,
    methods_in_numbers,
    stands_in_words,
    stop_in_words,
    terms_in_numbers,
    terms_in_words,
)
from .figures import convergence_figure, plane_explorer, plane_figure, stopping_figure, terms_figure
from .live import live_places
from .plane import FAMILIES, LOSS, MEASURES, METHODS, SAMPLES, View, front, path, places, read_study, read_terms

if TYPE_CHECKING:
    import pandas

__all__ = [
    "in_markdown", "FAMILIES", "LOSS", "MEASURES", "METHODS", "Penalty", "SAMPLES", "STANDS", "STOPS", "View", "answer_in_words",
    "beside_plain", "convergence_figure", "convergence_in_words", "data_folder", "empty_folder", "expected", "explore", "filmstrip", "front",
    "guide_in_words", "holds_best", "live_places", "margins_in_words", "path", "places", "plane_explorer", "plane_figure", "predict",
    "read_study", "read_terms", "runs_in_words", "stands_in_words", "stop_in_words", "terms_in_words", "stopping_figure", "terms_figure",
    "terms_in_numbers", "methods_in_numbers",
]  # fmt: skip


def expected() -> pandas.DataFrame:
    """What was written down before the study of baselines, beside what came."""
    return expectations_table(baselines_found(read_table("baselines"), read_table("baselines_losses")))
