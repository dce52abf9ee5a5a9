"""Lesson 01's helpers in one place: the library's own batches for a loop of the reader's, and its figures."""

from ...data.tasks import load_source, spread_evenly
from ...support.world import data_folder
from ..figures import picture_rows
from ..folders import empty_folder
from ..predictions import predict
from .batches import library_batches
from .figures import chain_rows, loss_differences, loss_ratios, losses_of_both, relative_differences, timestep_curves

__all__ = [
    "chain_rows", "data_folder", "empty_folder", "library_batches", "load_source", "loss_differences", "loss_ratios", "losses_of_both",
    "picture_rows", "predict", "relative_differences", "spread_evenly", "timestep_curves",
]  # fmt: skip
