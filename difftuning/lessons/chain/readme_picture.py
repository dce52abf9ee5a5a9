"""The README's picture: what a long training on 200 digits does to the loss on new and on old pictures, from the pilot's tables.

python -m difftuning.lessons.chain.readme_picture     # writes notebooks/images/chain_of_forgetting.png
"""

from __future__ import annotations

from pathlib import Path

from ...studies.gains import read_table
from ...support.files import atomic_path
from ...support.world import data_folder
from ..figures import Figure
from .figures import ratios_by_method

PICTURE = Path("notebooks/images/chain_of_forgetting.png")  # beside data/


def readme_figure(folder: Path | None = None) -> Figure:
    """Plain fine-tuning beside Diff-Tuning after the most steps that were run; `folder` has the tables."""
    losses = read_table("pilot_losses", folder).query(
        "task == 'digits' and training_pictures == 200 and method in ['plain', 'Diff-Tuning']"
    )
    longest = losses[losses.step == losses.step.max()]
    panels = {"loss on new digits": longest[longest.data == "target"], "loss on old pictures": longest[longest.data == "source"]}
    return ratios_by_method(panels, title=f"tuned for {longest.step.iloc[0]:,} steps on 200 digits")


if __name__ == "__main__":
    figure = readme_figure()
    with atomic_path(data_folder().parent / PICTURE) as scratch:
        figure.savefig(scratch, format="png", dpi=100, metadata={"Description": figure.get_label()})
