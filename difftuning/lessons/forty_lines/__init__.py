"""Lesson 01; here stand those functions of the library that its loop is made of."""

from ...diffusion.losses import variational_bound
from ...training.label_rows import add_rows
from ..exercises import grade

__all__ = ["add_rows", "grade", "variational_bound"]
