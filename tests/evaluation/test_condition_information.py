"""How well conditions predict pictures, against linear worlds whose answer is known and a fit for every left-out picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from difftuning.data.conditions import KINDS
from difftuning.data.tasks import Task
from difftuning.evaluation import condition_information as measure
from difftuning.evaluation.condition_information import condition_information, explained_share, ridge_prediction
from small import shapes


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("noise", "share"), [(0.0, 1.0), (0.5, 0.8), (1.0, 0.5), (2.0, 0.2)])
def test_of_a_linear_world_it_explains_what_is_not_noise(noise, share):
    """y = A x + e, the parts of A x and of e with variances 1 and noise^2: 1 / (1 + noise^2) of y can be explained."""
    A = normal(6, 40, seed=0) / 6**0.5
    A *= (40 / A.square().sum()) ** 0.5  # so that the outputs have variance 1 on average
    x, asked = normal(400, 6, seed=1), normal(2000, 6, seed=2)
    y, truth = (inputs @ A + 3 + noise * normal(len(inputs), 40, seed=seed) for inputs, seed in ((x, 3), (asked, 4)))
    assert explained_share(truth, ridge_prediction(x, y, asked), y.mean(0)) == pytest.approx(share, abs=0.02)


def test_what_says_nothing_explains_nothing_however_long_it_is():
    """More inputs than pictures would fit anything; the ridge sees to it that they do not."""
    x, y, asked, truth = (normal(80, width, seed=seed) for seed, width in enumerate((500, 7, 500, 7)))
    assert abs(explained_share(truth, ridge_prediction(x, y, asked), y.mean(0))) < 0.05


def test_the_ridge_is_the_one_that_a_fit_without_each_picture_would_choose(monkeypatch):
    x, y = normal(30, 50, seed=0), normal(30, 4, seed=1)
    y += x[:, :4]
    scale = float((x - x.mean(0)).square().sum(1).mean())

    def fit(x: Tensor, y: Tensor, asked: Tensor, strength: float) -> Tensor:
        X = x - x.mean(0)
        weights = torch.linalg.solve(X.T @ X + strength * scale * torch.eye(50, dtype=torch.float64), X.T @ (y - y.mean(0)))
        return y.mean(0) + (asked - x.mean(0)) @ weights

    def error_without_each(strength: float) -> float:
        others = [[j for j in range(30) if j != i] for i in range(30)]
        return float(sum((y[i] - fit(x[rest], y[rest], x[i], strength)).square().sum() for i, rest in enumerate(others)))

    strengths = [0.01, 0.1, 1.0, 10.0, 100.0]
    monkeypatch.setattr(measure, "STRENGTHS", torch.tensor(strengths, dtype=torch.float64))
    best = min(strengths, key=error_without_each)
    assert strengths[0] < best < strengths[-1]
    asked = normal(5, 50, seed=2)
    assert torch.allclose(ridge_prediction(x, y, asked), fit(x, y, asked, best))


def drawn(n: int, seed: int) -> Task:
    images, labels = shapes(n, seed)
    pictures = (images[:, None].float() / 127.5 - 1).repeat(1, 3, 1, 1)
    return Task("shapes", ["upright", "lying", "square"], labels, lambda chosen: pictures[chosen], 32, f"shapes {n} {seed}")


def test_a_condition_that_is_the_picture_explains_all_of_it(monkeypatch):
    monkeypatch.setattr(measure, "annotate_task", lambda kind, task, progress: {"conditions": ((task.images + 1) * 127.5).round().byte()})
    pictures = drawn(100, 0)
    assert condition_information("edge", pictures, pictures)["condition"] > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_explains_what_its_mean_picture_explains(kind):
    training, held_out = drawn(90, 0), drawn(30, 1)
    found = condition_information(kind, training, held_out)
    means = {label: training.images[training.labels == label].mean(0) for label in range(3)}
    errors = [(image - means[label]).square().sum() for image, label in zip(held_out.images, held_out.labels.tolist())]
    spread = (held_out.images - training.images.mean(0)).square().sum()
    assert found["class"] == pytest.approx(float(1 - sum(errors) / spread), abs=1e-5)
    assert found["class"] < found["condition"] < 1


def test_a_task_of_one_class_has_nothing_to_tell_by_it():
    of_one = {"labels": torch.zeros(30, dtype=torch.int64), "class_names": ["any"]}
    training, held_out = (dataclasses.replace(drawn(30, seed), **of_one) for seed in (0, 1))
    assert condition_information("edge", training, held_out)["class"] == 0
