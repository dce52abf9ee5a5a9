"""Grades say what is wrong, where and by how much; an answer that is missing or broken is a message, never an error."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from difftuning.diffusion.ideal import ideal_denoiser
from difftuning.diffusion.timestep_weights import timestep_distribution
from difftuning.lessons import exercises
from difftuning.lessons.exercises import EXERCISES, compare, exercise, grade

EXPECTED = timestep_distribution(50, 1.0)


@pytest.fixture
def registry(monkeypatch):
    """A registry of our own with one exercise, so that no lesson's checker is asked."""
    own: dict = {}
    monkeypatch.setattr(exercises, "EXERCISES", own)
    monkeypatch.setattr(exercises, "load_checkers", lambda: None)
    exercise("double")(lambda answer: compare(answer(torch.arange(4.0)), 2 * torch.arange(4.0), place="number {}".format))
    return own


def changed(index: int, value: float) -> torch.Tensor:
    answer = EXPECTED.clone()
    answer[index] = value
    return answer


def test_the_same_numbers_are_exact_in_any_precision_and_as_a_list():
    for answer in (EXPECTED.clone(), EXPECTED.float(), EXPECTED.tolist(), EXPECTED.numpy()):
        assert compare(answer, EXPECTED).passed and compare(answer, EXPECTED).message == "exact"


def test_a_rounding_error_is_close_and_names_the_worst_timestep():
    found = compare(changed(17, float(EXPECTED[17]) + 1e-5 * float(EXPECTED.max())), EXPECTED)
    assert found.passed and found.message.startswith("close: at worst timestep 17 is ")


def test_a_wrong_number_is_named_with_both_values_and_the_count():
    found = compare(changed(17, 0.5), EXPECTED)
    assert not found.passed
    assert found.message == f"1 of 50 are wrong; timestep 17 is 0.5, it should be {18 / 1275:.6g}"


def test_the_worst_of_several_is_named():
    answer = changed(3, 0.2)
    answer[40] = 0.4
    assert compare(answer, EXPECTED).message.startswith("2 of 50 are wrong; timestep 40 is 0.4,")


def test_the_mirror_image_is_recognised():
    found = compare(EXPECTED.flip(0), EXPECTED)
    assert not found.passed and found.message.endswith("it is the mirror image of what it should be")


@pytest.mark.parametrize(
    "factor, words",
    [
        (50.0, "every number is 50 times too large"),
        (0.25, "every number is 4 times too small"),
        (-1.0, "; every sign is reversed"),
        (-2.0, "every number is 2 times too large and every sign is reversed"),
    ],
)
def test_a_constant_factor_is_recognised(factor, words):
    found = compare(factor * EXPECTED, EXPECTED)
    assert not found.passed and found.message.endswith(words)


def test_zeros_are_no_factor():
    assert "times too" not in compare(0 * EXPECTED, EXPECTED).message


def test_answers_to_separate_cases_are_each_held_against_their_own_size():
    """1 % off in a small number is lost beside a large one of the same vector, but not where each is a case of its own."""
    expected = torch.tensor([0.1, 100.0, 0.0], dtype=torch.float64)
    assert compare([0.101, 100.0, 0.0], expected).passed
    found = compare([0.101, 100.0, 0.0], expected, separate=True)
    assert not found.passed and found.message.startswith("1 of 3 are wrong; timestep 0 is 0.101, it should be 0.1")
    assert compare([0.1, 100.0, 0.0], expected, separate=True).message == "exact"
    assert not compare([0.1, 100.0, 1.0], expected, separate=True).passed


def test_another_shape_is_a_message_with_both_shapes():
    assert compare(EXPECTED[:-1], EXPECTED).message == "the shape is (49,), it should be (50,)"
    assert compare(EXPECTED[None], EXPECTED).message == "the shape is (1, 50), it should be (50,)"


@pytest.mark.parametrize("value, word", [(torch.nan, "nan"), (torch.inf, "inf")])
def test_a_number_that_is_none_is_named(value, word):
    found = compare(changed(7, value), EXPECTED)
    assert not found.passed and found.message == f"timestep 7 is {word}"


def test_places_have_the_names_they_are_given():
    assert "picture 2 is 0" in compare([1.0, 1.0, 0.0], torch.ones(3), place="picture {}".format).message


@pytest.mark.parametrize("answer", [lambda x: None, lambda x: ...], ids=["None", "..."])
def test_what_is_not_written_yet_is_said_to_be(registry, answer):
    found = grade("double", answer)
    assert not found.passed and found.message.startswith("not written yet")


def test_a_stub_that_raises_not_implemented_is_not_written_either(registry):
    def stub(x):
        raise NotImplementedError

    assert grade("double", stub).message.startswith("not written yet")


def test_what_the_readers_code_raises_is_a_message(registry):
    found = grade("double", lambda x: x @ torch.ones(9))
    assert not found.passed and found.message.startswith("your function raised RuntimeError: ")


def test_a_value_in_place_of_the_function_is_a_message(registry):
    found = grade("double", 2 * torch.arange(4.0))
    assert not found.passed and "hand over your function itself" in found.message and "Tensor" in found.message


def test_an_unknown_exercise_is_an_error_that_lists_those_there_are(registry):
    with pytest.raises(ValueError, match="unknown exercise 'triple': choose one of double"):
        grade("triple", lambda x: x)


def test_a_right_answer_shows_a_tick_and_a_wrong_one_a_cross(registry):
    assert repr(grade("double", lambda x: x + x)) == "✓ exact"
    assert repr(grade("double", lambda x: x)).startswith("✗ ")


def test_the_lessons_checkers_are_found_without_importing_them():
    program = "from difftuning.lessons.exercises import grade; print(grade('retention distribution', lambda steps, power: None))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "✗ not written yet: replace the last line of the function with your own", done.stderr[-2000:]


# The exercises of lessons 03 and 04


def falling(num_timesteps, power):
    ranks = torch.arange(num_timesteps, 0, -1, dtype=torch.float64)
    return ranks**power / (ranks**power).sum()


LESSON = {
    "retention distribution": falling,
    "equivalent weights": lambda distribution: len(distribution) * distribution,
    "bank weight for a crossing": lambda crossing, steps, power: ((crossing + 1) / (steps - crossing)) ** power,
    "the same noise": lambda t, snr, other_snr: (other_snr > snr[t]).sum(),
    "ideal noise": lambda x_t, t, data, a: (x_t - a[t].sqrt() * ideal_denoiser(x_t, t, data, a)) / (1 - a[t]).sqrt(),
}
WRONG = {
    "the rising distribution": ("retention distribution", lambda steps, power: falling(steps, power).flip(0), "mirror image"),
    "weights that are not normalised": (
        "retention distribution",
        lambda steps, power: falling(steps, power) * steps,
        "1000 times too large",
    ),
    "the paper's form, which is right at power 1 alone": (
        "retention distribution",
        lambda steps, power: (lambda w: w / w.sum())(1 - (torch.arange(steps).double() / steps) ** power),
        "at power 2.5 with 1000 timesteps: ",
    ),
    "the distribution itself": ("equivalent weights", lambda distribution: distribution, "1000 times too small"),
    "the power forgotten": (
        "bank weight for a crossing",
        lambda c, steps, power: (c + 1) / (steps - c),
        "2 of 6 are wrong; the bank weight for a crossing at t = 300 of 1000, power 2, is 0.43, it should be 0.1849",
    ),
    "ranks from 0 in the bank weight": (
        "bank weight for a crossing",
        lambda c, steps, power: (c / (steps - c)) ** power,
        "crossing at t = 50 of 250, power 1, is 0.25, it should be 0.255",
    ),
    "ranks from 0 in the distribution": (
        "retention distribution",
        lambda steps, power: (lambda ranks: ranks**power / (ranks**power).sum())(torch.arange(steps - 1, -1, -1).double()),
        "timestep 999 is 0,",
    ),
    "a chain of 1000 whatever is asked": ("retention distribution", lambda steps, power: falling(1000, power), "the shape is (1000,)"),
    "weights for 1000 timesteps": ("equivalent weights", lambda distribution: 1000 * distribution, "250 timesteps: 250 of 250 are wrong"),
    "a crossing in 1000 timesteps": (
        "bank weight for a crossing",
        lambda c, steps, power: ((c + 1) / (1000 - c)) ** power,
        "crossing at t = 50 of 250",
    ),
    "the same timestep": ("the same noise", lambda t, snr, other_snr: t, "has the noise of t = 320 at 16 times it, yours is 100"),
    "the other way round": ("the same noise", lambda t, snr, other_snr: (snr > other_snr[t]).sum(), "t = 100 at 1 times"),
    "the picture instead of its noise": ("ideal noise", ideal_denoiser, "that is the ideal picture"),
    "the noisy picture": ("ideal noise", lambda x_t, t, data, a: x_t, "at t = 5: "),
}


@pytest.mark.parametrize("name", LESSON)
def test_a_right_answer_passes(name):
    assert grade(name, LESSON[name]).passed
    assert name in EXERCISES


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_fails_with_what_is_wrong(case):
    name, answer, words = WRONG[case]
    found = grade(name, answer)
    assert not found.passed and words in found.message, found
