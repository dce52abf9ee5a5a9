"""Everything that lesson 10 imports, in one place."""

from ...support.world import data_folder
from ..adapters.variants import FULL
from ..explorers import explore
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import empty_folder
from ..predictions import predict
from ..quickstart.figures import samples_and_nearest
from ..quickstart.own_pictures import example_folder
from ..when.runs import read_gains
from .answers import FALLS, course, does_it_fall, hours_in_words, stopping_in_words, tables_in_words
from .costs import (
    CARDS,
    LONG,
    PAPER_BATCH,
    PAPER_STEPS,
    at_a_time,
    forward_operations,
    long,
    paper_memory,
    paper_operations,
    smallest_card,
    training_operations,
)
from .figures import courses_figure, memory_explorer, memory_figure, tenths_explorer, time_explorer, time_figure
from .pictures import old_pictures, split

__all__ = [
    "CARDS", "FALLS", "FULL", "LONG", "PAPER_BATCH", "PAPER_STEPS", "at_a_time", "course", "courses_figure", "data_folder", "does_it_fall",
    "empty_folder", "example_folder", "explore", "filmstrip", "forward_operations", "hours_in_words", "long", "memory_explorer", "memory_figure",
    "old_pictures", "paper_memory", "paper_operations", "picture_rows", "predict", "read_gains", "samples_and_nearest", "smallest_card", "split",
    "stopping_in_words", "tables_in_words", "tenths_explorer", "time_explorer", "time_figure", "training_operations",
]  # fmt: skip
