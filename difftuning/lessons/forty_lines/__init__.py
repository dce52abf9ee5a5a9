"""What lesson 01 needs: the library's own batches for a loop of the reader's, two figures, a worked answer and its checker."""

from .answer import worked_answer
from .batches import library_batches
from .figures import chain_rows, loss_differences, losses_of_both, relative_differences, timestep_curves

__all__ = [
    "chain_rows", "library_batches", "loss_differences", "losses_of_both", "relative_differences", "timestep_curves", "worked_answer",
]  # fmt: skip
