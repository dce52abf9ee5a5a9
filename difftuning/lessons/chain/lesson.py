"""Everything that lesson 02 imports, in one place."""

from ...data.tasks import load_source, spread_evenly
from ...studies.gains import read_table
from ...studies.premise import criterion_ratios, judge
from ...support.world import data_folder
from ..explorers import explore, precompute
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import run_folder
from ..predictions import predict
from . import figures

__all__ = [
    "criterion_ratios", "data_folder", "explore", "figures", "filmstrip", "judge", "load_source", "picture_rows", "precompute", "predict",
    "read_table", "run_folder", "spread_evenly",
]  # fmt: skip
