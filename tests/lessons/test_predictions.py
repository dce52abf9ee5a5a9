"""A prediction is recorded, shown beside the measurement, and readable where no widget lives."""

from __future__ import annotations

import pytest

from difftuning.lessons.predictions import PREDICTION, predict


def test_a_choice_is_recorded_and_set_beside_the_measurement():
    guess = predict("What happens?", ["it rises", "it falls"])
    assert guess.choice is None and guess.beside("it falls") == "Answer: it falls."
    guess.buttons.value = "it rises"
    assert guess.choice == "it rises" and guess.note.value == "Recorded: it rises."
    assert guess.beside("it falls") == "You predicted: it rises. Answer: it falls."


def test_a_measurement_outside_the_answers_is_refused():
    with pytest.raises(ValueError, match="unknown answer 'it stays': choose one of it rises, it falls"):
        predict("What happens?", ["it rises", "it falls"]).beside("it stays")


def test_question_and_answers_stand_in_a_notebook_that_is_only_read():
    assert predict("What happens?", ["up", "down"])._repr_mimebundle_()["text/plain"] == "Predict: What happens? (up / down)"


def test_a_page_is_told_the_question_and_the_answers_when_it_asks(monkeypatch):
    guess = predict("What happens?", ["up", "down"])
    assert PREDICTION not in guess._repr_mimebundle_()
    monkeypatch.setenv("DIFFTUNING_FRAMES", "on")
    assert guess._repr_mimebundle_()[PREDICTION] == {"question": "What happens?", "answers": ["up", "down"]}
