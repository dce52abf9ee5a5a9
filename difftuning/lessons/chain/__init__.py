"""Lesson 02: where along the chain a model forgets."""

from ..exercises import grade

__all__ = ["grade"]
