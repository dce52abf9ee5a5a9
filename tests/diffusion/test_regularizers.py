"""Each penalty against a loop that spells its equation out."""

from __future__ import annotations

import torch
from torch import nn

from difftuning.diffusion.regularizers import diagonal_fisher, distillation, ewc, l2_sp

WEIGHTS = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
START = [torch.randn(3, 2), torch.randn(4)]


def test_l2_sp_is_half_the_squared_distance():
    by_loop = sum((own - first) ** 2 for now, then in zip(WEIGHTS, START) for own, first in zip(now.flatten(), then.flatten())) / 2
    torch.testing.assert_close(l2_sp(WEIGHTS, START), by_loop)
    torch.testing.assert_close(torch.autograd.grad(l2_sp(WEIGHTS, START), WEIGHTS)[0], WEIGHTS[0] - START[0])


def test_ewc_weighs_each_squared_distance_by_its_fisher():
    fisher = [torch.rand(3, 2), torch.rand(4)]
    by_loop = torch.zeros(())
    for now, then, importance in zip(WEIGHTS, START, fisher):
        for own, first, one in zip(now.flatten(), then.flatten(), importance.flatten()):
            by_loop = by_loop + 0.5 * one * (own - first) ** 2
    torch.testing.assert_close(ewc(WEIGHTS, START, fisher), by_loop)
    torch.testing.assert_close(ewc(WEIGHTS, START, [torch.ones(3, 2), torch.ones(4)]), l2_sp(WEIGHTS, START))


def test_the_fisher_is_the_mean_square_of_each_samples_own_gradient():
    net, unused = nn.Linear(3, 1), torch.zeros(2, requires_grad=True)
    inputs, targets = torch.randn(6, 3), torch.randn(6)
    found = diagonal_fisher(((net(x)[0] - y) ** 2 for x, y in zip(inputs, targets)), [net.weight, net.bias, unused])
    by_hand = torch.zeros(1, 3)
    for x, y in zip(inputs, targets):  # d (w x + b - y)^2 / d w = 2 (w x + b - y) x
        error = (net.weight[0] @ x + net.bias[0] - y).item()
        by_hand += (2 * error * x[None]) ** 2 / 6
    torch.testing.assert_close(found[0], by_hand)
    assert found[2].tolist() == [0, 0]
    batch = torch.autograd.grad(((net(inputs)[:, 0] - targets) ** 2).mean(), net.weight)[0] ** 2
    assert not torch.allclose(found[0], batch), "the square of the mean gradient is something else"


def test_distillation_is_each_samples_mean_square_of_the_difference_in_noise():
    eps, teacher = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    by_loop = [sum(float(a - b) ** 2 for a, b in zip(own.flatten(), other.flatten())) / 16 for own, other in zip(eps, teacher)]
    torch.testing.assert_close(distillation(eps, teacher), torch.tensor(by_loop))
