"""Everything that lesson 10 imports, in one place."""

from ...studies.gains import read_table
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
from .answers import FALLS, course, does_it_fall, hours_in_words, long_in_words, stopping_in_words, tables_in_words
from .costs import (
    LONG,
    PAPER_STEPS,
    at_a_time,
    long,
    paper_memory,
    paper_operations,
    smallest_card,
    training_operations,
)
from .figures import courses_figure, long_figure, memory_explorer, memory_figure, tenths_explorer, time_explorer, time_figure
from .pictures import old_pictures, split

__all__ = [
    "FALLS", "FULL", "LONG", "PAPER_STEPS", "at_a_time", "course", "courses_figure", "data_folder", "does_it_fall",
    "empty_folder", "example_folder", "explore", "filmstrip", "hours_in_words", "long", "long_figure", "long_in_words", "memory_explorer",
    "memory_figure", "old_pictures", "paper_memory", "paper_operations", "picture_rows", "predict", "read_gains", "read_table",
    "samples_and_nearest", "smallest_card", "split", "stopping_in_words", "tables_in_words", "tenths_explorer", "time_explorer",
    "time_figure", "training_operations",
]  # fmt: skip
