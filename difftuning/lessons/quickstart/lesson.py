"""Everything that lesson 00 imports, in one place."""

from ...data.tasks import load_source
from ...evaluation.chain_of_forgetting import chain_tenths
from ...studies.gains import read_table
from ...studies.grid import LEARNING_RATES
from ...support.world import data_folder
from ..explorers import explore
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import run_folder
from ..predictions import predict
from .figures import (
    chain_explorer,
    from_pure_noise,
    gains_figure,
    garments_curve,
    learned_and_forgotten,
    samples_and_nearest,
)
from .own_pictures import example_folder
from .plan import plan
from .protocols import beside_the_score, in_words, long_run_samples, protocol_gains
from .recognise import SHARES, count_garments, how_often

__all__ = [
    "LEARNING_RATES", "SHARES", "beside_the_score", "chain_explorer", "chain_tenths", "count_garments", "data_folder",
    "example_folder", "explore", "filmstrip", "from_pure_noise", "gains_figure", "garments_curve", "how_often", "in_words",
    "learned_and_forgotten", "load_source", "long_run_samples", "picture_rows", "plan", "predict", "protocol_gains", "read_table",
    "run_folder", "samples_and_nearest",
]  # fmt: skip
