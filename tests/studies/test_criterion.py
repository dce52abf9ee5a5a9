"""The criterion speaks of the premise alone: small falls near the data, large ones near the noise, growing in between."""

import pytest

from difftuning.studies.criterion import judge

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
