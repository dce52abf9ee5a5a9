"""What an explorer hands to a page: frames for every setting that its controls can reach there, each picture once, and only when asked."""

from __future__ import annotations

import base64
import json
from itertools import product

import pytest

from difftuning.lessons.explorers import explore, precompute
from difftuning.lessons.figures import Figure, describe
from difftuning.lessons.page_frames import EXPLORER, MOST_FRAMES, page_frames, settings_near


def bars(height: int, colour: str = "blue") -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().bar([0], [height], color=colour)
    return describe(figure, f"One {colour} bar of {height}.")


@pytest.fixture(scope="module")
def frames():
    return precompute(bars, height=[1, 2, 3], colour=["blue", "red"])


def test_the_output_holds_frames_only_when_they_are_asked_for(frames, monkeypatch):
    box = explore(frames)
    assert EXPLORER not in box._repr_mimebundle_()
    monkeypatch.setenv("DIFFTUNING_FRAMES", "on")
    given = box._repr_mimebundle_()[EXPLORER]
    assert json.loads(json.dumps(given)) == page_frames(frames, {"height": 1, "colour": "blue"})


def test_the_widget_stays_a_widget_and_reads_as_a_sentence_elsewhere(frames):
    bundle = explore(frames)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "Run the notebook to change: height (1 to 3), colour (blue, red)."


def test_every_setting_has_its_picture_and_description(frames):
    given = page_frames(frames, {"height": 2, "colour": "blue"})
    assert [(c["name"], c["values"], c["start"], c["slides"]) for c in given["controls"]] == [
        ("height", ["1", "2", "3"], 1, True),
        ("colour", ["blue", "red"], 0, False),
    ]
    for (i, height), (k, colour) in product(enumerate([1, 2, 3]), enumerate(["blue", "red"])):
        place = given["frames"][f"{i},{k}"]
        assert base64.b64decode(given["pictures"][place]) == frames(height=height, colour=colour)
        assert given["descriptions"][place] == f"One {colour} bar of {height}."


def test_equal_pictures_are_stored_once():
    given = page_frames(precompute(lambda height: bars(min(height, 2)), height=[1, 2, 3, 4]), {"height": 1})
    assert list(given["frames"].values()) == [0, 1, 1, 1] and len(given["pictures"]) == 2


def test_too_many_settings_keep_those_near_the_start_and_every_control_moves():
    axes = {"a": list(range(10)), "b": list(range(8)), "c": ["x", "y"]}
    start = {"a": 3, "b": 0, "c": "y"}
    kept = settings_near(axes, start)
    assert len(kept) == 1 + 9 + 7 + 1 <= MOST_FRAMES  # pairs would be 88 more
    assert kept[0] == (3, 0, "y") and all(sum(v != s for v, s in zip(setting, start.values())) <= 1 for setting in kept)


def test_a_long_slider_keeps_all_its_values():
    assert len(settings_near({"t": list(range(100))}, {"t": 0})) == 100 > MOST_FRAMES
