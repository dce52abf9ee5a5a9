"""The exercises of lesson 07: a LoRA layer of one's own, held against peft's, and the bytes that a training needs."""

from __future__ import annotations

import copy
from typing import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..exercises import Grade, compare, exercise, written

INPUTS, OUTPUTS = 160, 96  # all sizes differ, so that a shape tells which factor it is
CASES = [(8, 8.0), (4, 12.0), (16, 4.0)]  # rank, alpha
TRAININGS = [(3_065_632, 3_065_632), (3_096_352, 190_880), (674_834_720, 1_642_784)]  # all weights, and those trained


@exercise("LoRA layer")
def lora_layer(answer: Callable) -> Grade:
    """answer(layer, rank, alpha) -> a module that starts as the layer, trains two factors alone, and computes what peft's does."""
    for case, (rank, alpha) in enumerate(CASES):
        graded = _one_layer(answer, rank, alpha, case)
        if not graded.passed:
            return graded
    return Grade(True, f"{graded.message}: the numbers of peft's layer, in {len(CASES)} ranks and scales")


def _one_layer(answer: Callable, rank: int, alpha: float, seed: int) -> Grade:
    generator = torch.Generator().manual_seed(seed)
    layer, x = nn.Linear(INPUTS, OUTPUTS), torch.randn(5, INPUTS, generator=generator)
    module, before = answer(copy.deepcopy(layer), rank, alpha), layer(x).detach()
    written(module)
    if not isinstance(module, nn.Module):
        return Grade(False, f"a torch.nn.Module is asked for, and this is a {type(module).__name__}")
    first = module(x)
    written(first)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    if any(weight.shape in ((OUTPUTS, INPUTS), (OUTPUTS,)) for weight in trained):
        return Grade(False, "the layer's own weight or bias is trained, too: freeze the layer (requires_grad_(False))")
    shapes = {tuple(weight.shape): weight for weight in trained}
    if set(shapes) != {(rank, INPUTS), (OUTPUTS, rank)} or len(trained) != 2:
        found = ", ".join(str(tuple(weight.shape)) for weight in trained) or "nothing"
        return Grade(False, f"{found} is trained; it should be A {(rank, INPUTS)} and B {(OUTPUTS, rank)}, as nn.Parameter")
    a, b = shapes[rank, INPUTS], shapes[OUTPUTS, rank]
    wrong = _start(first.detach(), before, a, b)
    return wrong or _update(module, layer, x, a, b, alpha, generator)


def _start(first: Tensor, before: Tensor, a: Tensor, b: Tensor) -> Grade | None:
    """What is wrong with how the factors begin; None where nothing is."""
    if not a.any() and not b.any():
        return Grade(False, "A and B are both zero: the gradient of each is a multiple of the other, so neither ever moves")
    if b.any() and a.any():
        change = float((first - before).norm() / before.norm())
        return Grade(False, f"at the start the output is {100 * change:.0f} % off the layer's own: B should start at zero")
    if b.any():
        return Grade(False, "A starts at zero and B at random: that can learn, but LoRA and peft have it the other way round")
    spread = float(a.detach().std() * INPUTS**0.5)
    if not 0.1 < spread < 5:
        return Grade(False, f"A starts {spread:.2g} times as large as 1 / sqrt(inputs): divide random numbers by that root")
    return None


def _update(module: nn.Module, layer: nn.Linear, x: Tensor, a: Tensor, b: Tensor, alpha: float, generator: torch.Generator) -> Grade:
    """The update as after training, beside peft's with the same factors."""
    for factor in (a, b):
        factor.data.copy_(torch.randn(factor.shape, generator=generator) / factor.shape[1] ** 0.5)
    module, layer, x = module.double(), layer.double(), x.double().requires_grad_(True)  # as in a model: what comes in has a gradient
    expected = _by_peft(layer, x, a, b, alpha)
    kept: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor):
        found = module(x) - layer(x)
    graded = compare(found, expected, place=lambda n: "change of output {1} of input {0}".format(*divmod(n, OUTPUTS)))
    if not graded.passed:
        for wrong, hint in ((len(a), "the factor is alpha / rank, not alpha"), (len(a) / alpha, "the factor alpha / rank is missing")):
            if wrong != 1 and torch.allclose(found, expected * wrong, rtol=1e-3, atol=1e-4):
                return Grade(False, f"{graded.message}; {hint}")
        return graded
    own = {weight.data_ptr() for weight in (*module.parameters(), *layer.parameters())}
    if any(sorted(each.shape) == sorted((OUTPUTS, INPUTS)) and each.data_ptr() not in own for each in kept):
        return Grade(False, "the numbers are right, but the whole product B A is formed: let x go through A, and the result through B")
    return graded


def _by_peft(layer: nn.Linear, x: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """What peft's layer adds to this one's output."""
    from peft import LoraConfig, inject_adapter_in_model

    model = nn.Sequential(copy.deepcopy(layer))
    inject_adapter_in_model(LoraConfig(r=len(a), lora_alpha=alpha, target_modules=["0"]), model)
    model.double()
    model[0].lora_A["default"].weight.data.copy_(a)
    model[0].lora_B["default"].weight.data.copy_(b)
    return (model(x) - layer(x)).detach()


@exercise("training bytes")
def training_bytes(answer: Callable) -> Grade:
    """answer(weights, trained) -> bytes in float32 of weights, gradients, Adam's moments and the moving average."""
    found = [answer(*case) for case in TRAININGS]
    written(*found)
    expected = torch.tensor([4 * (weights + 4 * trained) for weights, trained in TRAININGS], dtype=torch.float64)
    graded = compare(
        torch.tensor(found, dtype=torch.float64),
        expected,
        place=lambda n: "{:,} weights, {:,} trained".format(*TRAININGS[n]),
        separate=True,
    )
    without = torch.tensor([4 * (weights + 3 * trained) for weights, trained in TRAININGS], dtype=torch.float64)
    if not graded.passed and torch.allclose(torch.tensor(found, dtype=torch.float64), without):
        return Grade(False, f"{graded.message}; the moving average is missing")
    return graded
