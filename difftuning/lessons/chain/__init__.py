"""What lesson 02 needs: its figures, and what it shares with the other lessons."""

from ..exercises import grade
from ..explorers import explore, precompute
from ..figures import picture_rows
from ..filmstrip import filmstrip
from ..folders import run_folder
from ..predictions import predict
from . import figures

__all__ = ["explore", "figures", "filmstrip", "grade", "picture_rows", "precompute", "predict", "run_folder"]
