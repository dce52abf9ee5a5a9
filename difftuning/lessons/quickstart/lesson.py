"""Everything that lesson 00 imports, in one place."""

from ...data.tasks import load_source
from ...studies.gains import read_table
from ...support.world import data_folder
from ..explorers import explore
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import run_folder
from ..kept_samples import kept_samples
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
from .protocols import in_words, protocol_gains
from .recognise import ANSWERS, answer, are_garments, count_garments

__all__ = [
    "ANSWERS", "answer", "are_garments", "chain_explorer", "count_garments", "data_folder", "example_folder", "explore", "filmstrip",
    "from_pure_noise", "gains_figure", "garments_curve", "in_words", "learned_and_forgotten", "kept_samples", "load_source",
    "picture_rows", "plan", "predict", "protocol_gains", "read_table", "run_folder", "samples_and_nearest",
]  # fmt: skip
