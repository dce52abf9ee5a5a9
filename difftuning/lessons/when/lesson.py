"""Everything that lesson 09 imports, in one place."""

from ...studies.gains import read_table
from ..expectations import in_markdown
from ..explorers import explore
from ..filmstrip import filmstrip
from ..knobs import KNOBS
from ..parts import read_parts, runs_in_words
from ..predictions import predict
from ..quickstart.own_pictures import example_folder
from .answers import (
    WHERE,
    beside_the_paper,
    copies_in_words,
    most_in_words,
    size_answer,
    steps_in_words,
    when_in_words,
)
from .branch_figure import branches_figure
from .branches import branches_in_words, branches_table, splits
from .controls import CONTROLS, controls_table
from .counting import copies, counts, own_best
from .expected import expected
from .expected_main import domain_guidance, expected_main
from .figures import map_figure, sizes_figure, steps_figure
from .index import KNOWN, known_before, known_in_words, prediction_errors
from .index_figures import curves_figure, index_figure
from .knob_figures import knob_explorer, spreads_figure
from .knobs import beyond_seeds, knobs_in_words, most_moving, spreads
from .our_table import our_table
from .paper import paper_figure, paper_table
from .runs import GUIDED, MEASURES, NEW, cells, lost_in_words, lost_runs, on_course, read_gains, what_was_run
from .variety import variety, variety_in_words

__all__ = [
    "in_markdown", "CONTROLS", "GUIDED", "KNOBS", "KNOWN", "MEASURES", "NEW", "WHERE", "beside_the_paper", "beyond_seeds", "branches_figure", "branches_in_words", "branches_table", "cells", "controls_table", "copies", "copies_in_words", "counts", "curves_figure", "domain_guidance", "expected", "expected_main", "example_folder", "explore", "filmstrip",
    "index_figure", "knob_explorer", "knobs_in_words", "known_before", "known_in_words", "lost_in_words", "lost_runs", "on_course", "map_figure", "most_in_words", "most_moving",
    "our_table", "own_best", "paper_figure", "paper_table", "predict", "prediction_errors", "read_gains", "read_parts", "read_table", "runs_in_words",
    "size_answer", "sizes_figure", "splits", "spreads", "spreads_figure", "steps_figure", "steps_in_words", "variety", "variety_in_words", "what_was_run", "when_in_words",
]  # fmt: skip
