"""Lesson 04: what the two curves over the timestep do."""

from ..exercises import grade

__all__ = ["grade"]
