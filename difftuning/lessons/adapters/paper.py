"""What papers print of adapters on DiT-XL/2, and how sure each figure is.

Mean FID over eight sets (Food101, SUN397, DF-20M, Caltech101, CUB-200, ArtBench, Flowers, Stanford Cars), 24,000 steps: the
table of DiffFit's authors (Xie et al., ICCV 2023), which Diff-Tuning's paper takes over.  `sure`: looked up in a source; otherwise
from memory.  The one check that those passed: the eight values of the row, one for each set and from memory, too, have them as their mean.
"""

from __future__ import annotations

from typing import NamedTuple

from .variants import FULL


class Published(NamedTuple):
    """A row of the papers' table: trained weights in per cent, mean FID."""

    share: str
    mean: float
    sure: bool

    @property
    def text(self) -> str:
        """The mean, with a ~ where it is not looked up."""
        return f"{'' if self.sure else '~'}{self.mean:.2f}"


PUBLISHED = {
    FULL: Published("100", 16.59, True),
    "BitFit": Published("0.09", 16.82, True),
    "LoRA, rank 8": Published("0.17", 81.25, True),
    "LoRA, rank 16": Published("0.32", 81.31, False),
    "DiffFit": Published("0.12", 15.39, True),
    "AdaptFormer, sequential": Published("0.63", 18.70, False),
    "AdaptFormer, parallel": Published("0.63", 20.17, False),
    "VPT-Deep": Published("0.42", 26.80, False),
}
RERUN = Published("100", 14.36, False)  # all weights again, by Diff-Tuning's authors: another protocol, never mixed with the above
DIFF_TUNED = Published("100", 10.63, True)
WITH_DIFF_TUNING = {  # what Diff-Tuning's paper says of it
    FULL: f"better ({RERUN.text} to {DIFF_TUNED.text})",
    "DiffFit": "better",  # than a run of DiffFit of its own; its number is not known here
}
CLASSES = 101  # of the sets' label tables: the published shares come out at 101
