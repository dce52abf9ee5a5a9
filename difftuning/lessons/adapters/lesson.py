"""Everything that lesson 07 imports, in one place."""

from __future__ import annotations

from ...support.world import data_folder
from ..expectations import in_markdown
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..memory import dit_xl, training_memory
from ..parts import read_parts, runs_in_words
from ..predictions import predict
from ..tuning.plane import read_study
from .answers import (
    HOW_MANY,
    SAVED,
    answer_in_words,
    avoided_in_words,
    expected,
    gains_in_words,
    guidance_in_words,
    helped_in_words,
    saved_in_words,
    small_rises_in_words,
    verdicts,
)
from .choices import choices, choices_in_words
from .claims import unfounded
from .diagrams import block_diagram
from .effects import measured
from .figures import arrow_figure, drawn_figure, equal_learning_figure, gains_figure, memory_figure, settings
from .learning import equal_learning_in_words, equal_samples_in_words
from .tables import beside_the_paper, share_table
from .variants import SHOWN, adapted

__all__ = [
    "HOW_MANY", "SAVED", "SHOWN", "adapted", "answer_in_words", "arrow_figure", "avoided_in_words", "beside_the_paper",
    "block_diagram", "choices", "choices_in_words", "data_folder", "dit_xl", "drawn_figure", "empty_folder",
    "equal_learning_figure", "equal_learning_in_words", "equal_samples_in_words", "expected", "explore", "filmstrip",
    "gains_figure", "gains_in_words", "guidance_in_words", "helped_in_words", "in_markdown", "measured", "memory_figure", "precompute", "predict", "read_parts", "read_study", "runs_in_words",
    "saved_in_words", "settings", "share_table", "small_rises_in_words", "training_memory", "unfounded", "verdicts",
]  # fmt: skip
