"""The tables of lesson 07: trained shares, and ours beside the papers'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...models.adapters.apply import apply_adapter, merge_adapter, parameter_share
from ...models.adapters.options import VPT, LoRA
from ...studies.methods import ADAPTED
from ..memory import dit_xl
from ..parts import ALIKE, BETTER, SAME, UNCLEAR, WORSE, Parts
from .effects import beside_full, measured, with_diff_tuning
from .paper import CLASSES, PUBLISHED, WITH_DIFF_TUNING
from .variants import FULL, adapted

if TYPE_CHECKING:
    import pandas

    from ...models.pretrained import Pretrained

LONGER = "VPT-Deep, 84 tokens"


def share_table(pretrained: Pretrained, classes: int) -> pandas.DataFrame:
    """Trained weights in per cent of all: of the tiny DiT with every label row or those of so many classes, of DiT-XL/2 as counted here and as printed."""
    import pandas

    columns = {}
    models = {
        "tiny DiT, all label rows": (pretrained.copy_denoiser, None),
        f"tiny DiT, {classes} label rows": (pretrained.copy_denoiser, classes),
        f"DiT-XL/2, {CLASSES} label rows": (dit_xl, CLASSES),
    }
    for title, (build, count) in models.items():
        denoisers = adapted(build) | {
            "LoRA, rank 16": apply_adapter(build(), LoRA(rank=16)),
            LONGER: apply_adapter(build(), VPT(tokens=84)),
        }
        columns[title] = {name: f"{100 * parameter_share(each, num_classes=count):.2f} %" for name, each in denoisers.items()}
    columns["DiT-XL/2, the papers' tables"] = {name: f"{row.share} %" for name, row in PUBLISHED.items()}
    order = [*list(PUBLISHED), LONGER]
    return pandas.DataFrame(columns).loc[order].drop(FULL).fillna("–")


def is_mergeable(pretrained: Pretrained, name: str) -> bool | None:
    """Can an adapter of the study be written into the model's own weights?  None of all weights, where nothing is to be merged."""
    if name == FULL:
        return None
    try:
        merge_adapter(apply_adapter(pretrained.copy_denoiser(), ADAPTED[name].adapter))
    except ValueError:
        return False
    return True


def trained_share(pretrained: Pretrained, name: str, classes: int) -> float:
    """The trained share of the weights of a model with so many new classes: all weights, or an adapter of the study."""
    if name == FULL:
        return 1.0
    return parameter_share(apply_adapter(pretrained.copy_denoiser(), ADAPTED[name].adapter), num_classes=classes)


def beside_the_paper(parts: Parts) -> pandas.DataFrame:
    """Directions, not numbers: each adapter alone beside all weights, and with Diff-Tuning, in the papers and here."""
    import pandas

    rows = {}
    for name in [FULL, *measured(parts)]:
        published = PUBLISHED[name]
        rows[name] = {
            "mean FID (papers)": published.text,
            "beside all weights (papers)": "–" if name == FULL else _direction(published.mean / PUBLISHED[FULL].mean),
            "beside all weights (here)": "–" if name == FULL else beside_full(parts, name).new.replace(SAME, UNCLEAR),
            "with Diff-Tuning (paper)": WITH_DIFF_TUNING.get(name, "–"),
            "with Diff-Tuning (here)": with_diff_tuning(parts, name).new.replace(SAME, UNCLEAR),
        }
    return pandas.DataFrame(rows).T


def _direction(ratio: float) -> str:
    return SAME if abs(ratio - 1) < ALIKE else BETTER if ratio < 1 else WORSE
