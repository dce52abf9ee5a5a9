"""Lesson 03's import line."""

from ...studies.gains import read_table
from ..exercises import grade
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..predictions import predict
from . import figures, planar, transfer

__all__ = ["explore", "figures", "filmstrip", "grade", "planar", "precompute", "predict", "read_table", "transfer"]
