"""Lesson 05: must a memory bank hold memories?"""

from ..exercises import grade

__all__ = ["grade"]
