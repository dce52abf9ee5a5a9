"""Lesson 00, the quickstart: what fine-tuning forgets."""

from ..exercises import grade

__all__ = ["grade"]
