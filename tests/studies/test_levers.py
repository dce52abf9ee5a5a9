"""What the page on levers says of short pre-trainings is what their table says."""

import torch

from difftuning.data.tasks import load_source
from difftuning.studies.gains import read_table
from difftuning.studies.levers import every_second_class
from difftuning.studies.premise import judge
from difftuning.support.world import data_folder


def test_half_of_the_kinds_are_left_each_with_all_its_pictures():
    source = load_source()
    half = every_second_class(source)
    kept, all_ = half.labels.unique(), source.labels.unique()
    assert 2 * len(kept) in (len(all_), len(all_) + 1)
    assert all(torch.equal((half.labels == kind).sum(), (source.labels == kind).sum()) for kind in kept)


def test_the_page_says_what_the_table_says():
    page = (data_folder() / "results" / "levers.md").read_text(encoding="utf-8")
    table = read_table("levers").assign(fall=lambda rows: 100 * (1 - rows.after / rows.before))
    names = {"as shipped": "as shipped: 160 channels, all kinds", "256 channels": "**width**: 256 channels"}
    names["half the kinds"] = "**breadth**: every second kind of picture"
    for trial, name in names.items():
        cells = [name]
        for task in ("footwear", "digits"):
            falls = table[(table.trial == trial) & (table.task == task)].sort_values("tenth").fall.tolist()
            assert len(falls) == 10 and not judge([1 - fall / 100 for fall in falls]).met
            cells.append(", ".join(f"{fall:.1f}" for fall in falls[:3]) + f"; {sum(falls[6:]) / 4:.0f}")
        assert f"| {' | '.join(cells)} |" in page
    wide, usual, half = (
        table[table.trial == trial].set_index(["task", "tenth"]).fall.unstack()
        for trial in ("256 channels", "as shipped", "half the kinds")
    )
    assert (wide - usual).loc[:, 1:3].abs().max().max() < 0.5, "next to nothing"
    worse = (half - usual).loc[:, 1:3]
    assert worse.loc["footwear"].between(2.5, 5.4).all() and worse.loc["digits"].between(1.5, 2.4).all()
    kinds = every_second_class(load_source())
    held = {kinds.class_names[label] for label in kinds.labels.unique()}
    assert "shoe" not in held and "handwritten digit" in held
