"""Everything that lesson 07 imports, in one place."""

from __future__ import annotations

from ...support.world import data_folder
from ..explorers import explore, precompute
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..parts import ratio, read_parts, runs_in_words, score
from ..predictions import predict
from .answers import (
    HOW_MANY,
    SAVED,
    answer_in_words,
    avoided_in_words,
    choices_in_words,
    expected,
    helped_in_words,
    saved_in_words,
    verdicts,
)
from .diagrams import block_diagram
from .effects import measured
from .figures import arrow_figure, memory_figure, settings
from .memory import SHOWN, adapted, dit_xl, training_memory
from .tables import beside_the_paper, share_table

__all__ = [
    "HOW_MANY", "SAVED", "SHOWN", "adapted", "answer_in_words", "arrow_figure", "avoided_in_words", "beside_the_paper",
    "block_diagram", "choices_in_words", "data_folder", "dit_xl", "empty_folder", "expected", "explore", "filmstrip",
    "helped_in_words", "measured", "memory_figure", "picture_rows", "precompute", "predict", "ratio", "read_parts",
    "runs_in_words", "saved_in_words", "score", "settings", "share_table", "training_memory", "verdicts",
]  # fmt: skip
