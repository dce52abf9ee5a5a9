"""The criterion speaks of the premise alone: small falls near the data, large ones near the noise, growing in between."""

import pytest

from difftuning.studies import criterion
from difftuning.studies.criterion import main, report
from difftuning.studies.premise import DEVELOPMENT, PICTURES, STEPS, judge, require_premise
from difftuning.studies.tables import read_rows, write_rows
from difftuning.support.world import data_folder, world_version

MEETS = [0.98, 0.96, 0.93, 0.9, 0.85, 0.78, 0.7, 0.62, 0.55, 0.5]


def test_a_chain_that_falls_more_and_more_meets_the_criterion():
    assert judge(MEETS).met and str(judge(MEETS)) == "met"


@pytest.mark.parametrize("tenth, ratio", [(0, 0.965), (1, 0.945), (2, 0.915)])
def test_a_data_end_that_tuning_improves_does_not_meet_it(tenth, ratio):
    changed = [*MEETS[:tenth], ratio, *MEETS[tenth + 1 :]]
    assert not judge(changed).data_end and judge(changed).noise_end


def test_a_data_end_that_tuning_harms_is_no_objection():
    assert judge([1.3, 1.2, 1.1, *MEETS[3:]]).met


def test_a_noise_end_with_little_to_learn_does_not_meet_it():
    found = judge([*MEETS[:6], 0.72, 0.68, 0.66, 0.6])  # falls by 33.5 % on average
    assert not found.noise_end and found.data_end and "noise end" in str(found)


def test_a_fall_that_turns_round_does_not_meet_it():
    assert not judge([*MEETS[:6], 0.45, 0.5, 0.6, 0.8]).growing


def losses(path, ratios=MEETS, **changed):
    """The pilot's rows that the criterion reads, all with the same ratios."""
    rows = [
        {"world": world_version(), "seed": 0, "training_pictures": PICTURES, "method": "plain", "data": "validation", "task": task,
         "step": step, "tenth": tenth, "before": 2.0, "after": 2.0 * ratio, **changed}
        for task in DEVELOPMENT for step in STEPS for tenth, ratio in enumerate(ratios, 1)
    ]  # fmt: skip
    write_rows(path, rows)
    return path


def test_frozen_tasks_are_open_as_soon_as_all_four_runs_meet_the_criterion(tmp_path):
    require_premise(["kana", "digits"], losses(tmp_path / "pilot_losses.csv"))
    assert report(tmp_path / "pilot_losses.csv").endswith("The criterion is met.")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"ratios": [0.9, *MEETS[1:]]}, "footwear after 800 steps not met: data end"),
        ({"world": "another"}, "has no rows of world"),
        ({"task": "footwear"}, "digits after 800 steps not measured"),
        ({"step": 800}, "footwear after 1600 steps not measured"),
        ({"method": "Diff-Tuning"}, "footwear after 800 steps not measured"),
    ],
)
def test_until_then_they_stay_frozen_and_one_line_says_why(tmp_path, changed, why):
    path = losses(tmp_path / "pilot_losses.csv", **changed)
    with pytest.raises(ValueError, match=f"^flags, kana stay frozen until the pilot meets the criterion in world .*: .*{why}") as caught:
        require_premise(["kana", "digits", "flags"], path)
    assert "\n" not in str(caught.value)
    require_premise(["footwear", "digits", "my_pictures"], path)


def test_what_is_measured_is_printed_without_training_and_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(criterion, "run_study", lambda *given, **options: pytest.fail("went to work"))
    path = losses(tmp_path / "pilot_losses.csv", task="footwear")
    before = path.read_bytes()
    main(["--measured", "--table", str(tmp_path / "pilot.csv")])
    printed = capsys.readouterr().out
    text, *missing = printed.rstrip("\n").split("\nmissing: ")
    assert text == report(path) and text.count("validation footwear") == 2
    assert len(missing) == 2 * 2 * 2 * 3 - 2 and "validation footwear 800 steps plain" not in missing
    assert {"validation digits 1600 steps plain", "source footwear 800 steps reconsolidation only"} < set(missing)
    assert path.read_bytes() == before and {each.name for each in tmp_path.iterdir()} == {path.name, "criterion.md"}
    assert (tmp_path / "criterion.md").read_text() == f"```\n{text}\n```\n"
    with pytest.raises(SystemExit):
        main(["--measured", "--table", str(tmp_path / "other.csv")])
    assert "other_losses.csv has no rows of world" in capsys.readouterr().err


def test_the_committed_verdict_is_the_committed_tables():
    results = data_folder() / "results"
    if not any(row["world"] == world_version() for row in read_rows(results / "pilot_losses.csv")):
        pytest.skip("not measured in this world yet")
    assert (results / "criterion.md").read_text(encoding="utf-8") == f"```\n{report(results / 'pilot_losses.csv')}\n```\n"
