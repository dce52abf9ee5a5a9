"""A reader's prediction, recorded before the measurement and set beside it afterwards.

guess = predict("What happens to the loss?", ["it rises", "it falls"])     # a cell's last line: `guess`
guess.beside("it falls")                                                   # -> "You predicted: it rises. Answer: it falls."
"""

from __future__ import annotations

from typing import Any, Sequence

import ipywidgets as widgets

from ..support.options import require_choice
from .page_frames import frames_are_asked_for

PREDICTION = "application/vnd.difftuning.prediction+json"  # what a page needs of one


class Prediction(widgets.VBox):
    """The question and a button for each answer; `choice` is the reader's, None until there is one."""

    def __init__(self, question: str, answers: Sequence[str]):
        self.question, self.answers = question, list(answers)
        self.buttons = widgets.RadioButtons(options=self.answers, value=None, layout={"width": "max-content", "max_width": "98%"})
        self.note = widgets.Label("Choose one; it is kept until the figure below answers.")
        self.buttons.observe(self._keep, names="value")
        super().__init__([widgets.HTML(f"<b>Your prediction.</b> {question}"), self.buttons, self.note])
        self.add_class("difftuning-prediction")

    @property
    def choice(self) -> str | None:
        """The reader's answer, None until there is one."""
        return self.buttons.value

    def beside(self, measured: str) -> str:
        """Prediction and measurement in one line; `measured` is one of the answers."""
        require_choice("answer", measured, self.answers)
        said = f"You predicted: {self.choice}. " if self.choice else ""
        return f"{said}Answer: {measured}."

    def _keep(self, change: dict) -> None:
        self.note.value = f"Recorded: {change.new}."

    def __repr__(self) -> str:
        """What stands in a notebook that is only read."""
        return f"Predict: {self.question} ({' / '.join(self.answers)})"

    def _repr_mimebundle_(self, **wanted: Any) -> dict[str, Any]:
        asked = {PREDICTION: {"question": self.question, "answers": self.answers}} if frames_are_asked_for() else {}
        return super()._repr_mimebundle_(**wanted) | {"text/plain": repr(self)} | asked  # not shortened to a line, as ipywidgets would


def predict(question: str, answers: Sequence[str]) -> Prediction:
    """Ask the reader for one of `answers`."""
    return Prediction(question, answers)
