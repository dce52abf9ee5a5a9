"""The knobs' figure on sliders: which setting, and under which guidance."""

from __future__ import annotations

from ..explorers import Frames, precompute
from ..figures import Figure
from ..knob_figures import knob_figure, knob_numbers
from ..knobs import KNOBS, sets_run
from ..parts import GUIDANCES, Parts


def knob_explorer(parts: Parts) -> Frames:
    """The figure for every knob that was run, and both ways of guidance."""
    numbers = {guidance: knob_numbers(parts, guidance) for guidance in reversed(GUIDANCES)}

    def draw(setting: str, guidance: str) -> Figure:
        return knob_figure(parts, setting, guidance, numbers[guidance])

    return precompute(draw, setting=[name for name in KNOBS if sets_run(parts, name)], guidance=list(numbers))
