"""Explorers: every control changes the picture, frames never jump, a moved picture is the one that a full redraw gives, and a step is quick."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from difftuning.diffusion.process import Diffusion
from difftuning.lessons.explorers import Moving, explore, fixed_size_png, precompute
from difftuning.lessons.figures import Figure, describe
from difftuning.lessons.page_frames import description_of
from difftuning.lessons.weights.dashboard import Dashboard, weights_explorer

STEP_SECONDS = 0.05
AXES = {
    "family": ["official", "paper"],
    "tau": [0.5, 1, 2],
    "use": ["sample t", "weight the loss"],
    "bank_share": [0.1, 0.2, 0.5],
    "bank_weight": [0.1, 0.5, 1],
    "loss_weighting": ["none", "p2", "min_snr"],
}
START = {"family": "paper", "tau": 2, "use": "sample t", "bank_share": 0.2, "bank_weight": 0.1, "loss_weighting": "none"}


def bars(height: int, colour: str = "blue") -> Figure:
    figure = Figure(figsize=(2, 1.5))
    figure.subplots().bar([0], [height], color=colour)
    return describe(figure, "One bar.")


def moving_line() -> tuple[Moving, Figure]:
    """A line whose slope moves over axes that stand."""
    figure = Figure(figsize=(3, 2), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 3), xlabel="x")
    (line,) = axis.plot([0.1, 0.9], [0.2, 0.2])  # clear of the frame, which a redraw draws above it
    return Moving(figure, [line], lambda slope: line.set_ydata([0.2, 0.2 + 0.8 * slope]), slope=[1, 2, 3]), figure


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def dashboard_pixels(setting: dict) -> np.ndarray:
    board = Dashboard(Diffusion())
    board.update(**setting)
    return pixels(fixed_size_png(board.figure))


@pytest.fixture(scope="module")
def explorer() -> Moving:
    return weights_explorer(Diffusion(), **AXES)


# Frames


def test_frames_hold_every_combination_and_none_looks_like_another():
    frames = precompute(bars, height=[1, 2, 3], colour=["blue", "red"])
    assert len(frames.images) == 6
    assert len({frames(height=h, colour=c) for h in (1, 2, 3) for c in ("blue", "red")}) == 6
    assert frames(height=2, colour="red") == fixed_size_png(bars(2, "red"))


def test_frames_are_of_one_size():
    frames = precompute(bars, height=[1, 1000, 1_000_000])
    assert len({pixels(frames(height=h)).shape for h in (1, 1000, 1_000_000)}) == 1


def test_frames_keep_the_alt_text():
    frames = precompute(bars, height=[1])
    assert description_of(frames(height=1)) == "One bar."


def test_a_moved_picture_has_the_alt_text_of_its_values():
    figure = Figure(figsize=(3, 2))
    picture = Moving(figure, [], lambda height: describe(figure, f"A hill {height} m high – ε."), height=[1, 2])
    assert [description_of(picture(height=h)) for h in (1, 2)] == ["A hill 1 m high – ε.", "A hill 2 m high – ε."]


def test_an_axis_without_values_is_named():
    with pytest.raises(ValueError, match="needs at least one value to show, and colour has none"):
        precompute(bars, height=[1], colour=[])


# Moving pictures


def test_a_moved_picture_is_what_a_full_redraw_gives():
    picture, _ = moving_line()
    picture(slope=1)
    moved = pixels(picture(slope=3))
    fresh, figure = moving_line()
    fresh.update(slope=3)
    redrawn = pixels(fixed_size_png(figure))
    assert moved.shape == redrawn.shape
    assert np.array_equal(moved, redrawn)


def test_a_moved_picture_keeps_no_trace_of_the_one_before():
    picture, _ = moving_line()
    first = picture(slope=1)
    picture(slope=3)
    assert picture(slope=1) == first


@pytest.mark.parametrize(
    "setting",
    [START, START | {"family": "official", "use": "weight the loss"}, START | {"loss_weighting": "min_snr", "bank_weight": 1}],
    ids=["first", "other buttons", "other sliders"],
)
def test_the_dashboard_moves_to_what_a_full_redraw_gives(explorer, setting):
    """Lines, bars and words lie above grid and frame here and there where a redraw has them below: a few pixels may differ."""
    moved, redrawn = pixels(explorer(**setting)), dashboard_pixels(setting)
    other = dashboard_pixels(START | {"tau": 0.5, "bank_share": 0.5})
    different = (np.abs(moved - redrawn).max(2) > 16).mean()
    assert moved.shape == redrawn.shape
    assert different < 0.002 < (np.abs(moved - other).max(2) > 16).mean()


# Widgets


def controls(box) -> dict:
    return {control.description.replace(" ", "_"): control for control in box.children[:-1]}


def test_every_control_changes_the_picture(explorer):
    """From one setting, and whatever value a control is moved to; each picture differs from all others of that control."""
    for name, values in AXES.items():
        box = explore(explorer, **START)
        seen = set()
        for value in values:
            controls(box)[name].value = value
            seen.add(box.children[-1].value)
        assert len(seen) == len(values), name


def test_the_picture_is_that_of_the_controls():
    frames = precompute(bars, height=[1, 2], colour=["blue", "red"])
    box = explore(frames, height=2)
    assert box.children[-1].value == frames(height=2, colour="blue")
    controls(box)["colour"].value = "red"
    assert box.children[-1].value == frames(height=2, colour="red")


def test_words_are_buttons_and_numbers_slide(explorer):
    kinds = {name: type(control).__name__ for name, control in controls(explore(explorer, **START)).items()}
    words = {name for name, values in AXES.items() if isinstance(values[0], str)}
    assert kinds == {name: "ToggleButtons" if name in words else "SelectionSlider" for name in AXES}


def test_an_unknown_start_is_named(explorer):
    with pytest.raises(ValueError, match="unknown control 'height': choose one of family, tau, use"):
        explore(explorer, height=3)
    with pytest.raises(ValueError, match="unknown bank_weight 0.3: choose one of 0.1, 0.5, 1"):
        explore(explorer, bank_weight=0.3)


# Time


def quickest(step, repeats: int = 40) -> float:
    """Processor seconds of the quickest of some repeats: another process on the core does not count, a slow step does."""
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        step()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def test_a_step_of_the_dashboard_takes_at_most_50_ms(explorer):
    slider = controls(explore(explorer, **START))["tau"]
    taus = iter([0.5, 1, 2] * 20)
    assert quickest(lambda: setattr(slider, "value", next(taus))) < STEP_SECONDS


def test_a_step_over_frames_takes_at_most_50_ms():
    frames = precompute(bars, height=[1, 2, 3])
    slider = controls(explore(frames))["height"]
    heights = iter([2, 3, 1] * 20)
    assert quickest(lambda: setattr(slider, "value", next(heights))) < STEP_SECONDS


def test_a_full_redraw_would_be_too_slow():
    """What the limit is there to keep out: it fails for the way that an explorer must not draw."""
    assert quickest(lambda: dashboard_pixels(START), repeats=1) > STEP_SECONDS
