"""How well a condition alone predicts the picture, so that none is just the picture again."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.conditions import Kind, annotate_task
from ..data.tasks import Task
from ..support.surroundings import undisturbed

STRENGTHS = torch.logspace(-4, 3, 15, dtype=torch.float64)  # of the ridge, times the mean squared length of a training input


@undisturbed
def condition_information(kind: Kind, training: Task, held_out: Task) -> dict[str, float]:
    """The share of the held-out pictures' variance that the condition explains, and beside it what the class alone explains.

    `condition`: brightness at every pixel predicted from the whole condition picture by ridge regression (`ridge_prediction`).
    It is a lower bound, as it is linear: a network may read more out of the same condition.  `class`: predicted by the mean
    training picture of its class.  1 is the picture itself, 0 no better than the mean of all training pictures.
    """
    pictures, truth = (task.images.double().mean(1).flatten(1) for task in (training, held_out))  # (N, H * W)
    conditions, asked = (_inputs(kind, task) for task in (training, held_out))
    of_class = torch.stack([pictures[training.labels == label].mean(0) for label in range(len(training.class_names))])
    found = {"condition": ridge_prediction(conditions, pictures, asked), "class": of_class[held_out.labels]}
    return {name: explained_share(truth, predicted, pictures.mean(0)) for name, predicted in found.items()}


def ridge_prediction(x: Tensor, y: Tensor, asked: Tensor) -> Tensor:
    """y (N, Q) for inputs `asked` (M, P), by ridge regression on x (N, P) and y (N, Q); float64 (M, Q).

        prediction = mean(y) + (asked - mean(x)) (X^T X + s I)^-1 X^T Y        X, Y: x, y less their means

    The ridge s is that with the least error in leaving one training picture out, which needs no second fit:
    (y_i - prediction_i) / (1 - H_ii), H = X (X^T X + s I)^-1 X^T (Hastie, Tibshirani and Friedman, eq. 7.64).
    """
    X, Y = x - x.mean(0), y - y.mean(0)
    U, lengths, V = torch.linalg.svd(X, full_matrices=False)  # (N, K), (K,), (K, P)
    squares, rotated = lengths.square(), U.T @ Y
    ridges = STRENGTHS * squares.sum() / len(X)
    errors = []
    for ridge in ridges:
        shrunk = squares / (squares + ridge)
        own = (U.square() @ shrunk)[:, None]  # H_ii, but for the mean's share of 1 / N
        errors.append(((Y - U @ (shrunk[:, None] * rotated)) / (1 - 1 / len(Y) - own)).square().sum())
    ridge = ridges[torch.stack(errors).argmin()]
    weights = V.T @ ((lengths / (squares + ridge))[:, None] * rotated)  # (P, Q)
    return y.mean(0) + (asked - x.mean(0)) @ weights


def explained_share(truth: Tensor, predicted: Tensor, mean: Tensor) -> float:
    """1 - |truth - predicted|^2 / |truth - mean|^2, over all pictures and pixels."""
    return float(1 - (truth - predicted).square().sum() / (truth - mean).square().sum())


def _inputs(kind: Kind, task: Task) -> Tensor:
    """Conditions as rows (N, P), float64 in [0, 1]; of grey ones a single channel."""
    conditions = annotate_task(kind, task, progress=False)["conditions"]
    grey = torch.equal(conditions[:, :1].expand_as(conditions), conditions)
    return (conditions[:, :1] if grey else conditions).double().flatten(1) / 255
