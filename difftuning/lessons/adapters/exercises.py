"""The exercises of lesson 07: a LoRA layer of one's own, held against peft's, and the share of a rise that is avoided."""

from __future__ import annotations

import copy
from typing import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..exercises import Grade, compare, exercise, written
from .effects import LEAST_RISE

INPUTS, OUTPUTS = 160, 96  # all sizes differ, so that a shape tells which factor it is
CASES = [(8, 8.0), (4, 12.0), (16, 4.0)]  # rank, alpha
LOSSES = [
    (0.5, 0.9, 0.6),
    (0.4, 0.5, 0.5),
    (0.25, 0.5, 0.2),  # better than before
    (0.2, 0.3, 0.35),
    (0.5, 0.7, 0.51),
    (0.5, 0.505, 0.515),  # two rises of next to nothing
    (0.5, 0.51, 0.6),
]  # on old pictures: before, after plain tuning, after a method


@exercise("LoRA layer")
def lora_layer(answer: Callable) -> Grade:
    """answer(layer, rank, alpha) -> a module that starts as the layer, trains two factors alone, and computes what peft's does."""
    if isinstance(answer, nn.Module):
        return Grade(False, "hand over your class itself, not a layer that it has made")
    try:
        for case, (rank, alpha) in enumerate(CASES):
            graded = _one_layer(answer, rank, alpha, case)
            if not graded.passed:
                return graded
    except NotImplementedError:
        return Grade(False, "not written yet: fill in both methods of the class")
    except Exception as error:  # the reader's, to be read on one line
        return Grade(False, f"your class raised {type(error).__name__}: {error}")
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


@exercise("rise avoided")
def rise_avoided(answer: Callable) -> Grade:
    """answer(before, plain, method) -> the share of plain tuning's rise in the loss that a method avoids; the first is the loss before tuning.

    A rise below `LEAST_RISE` of the loss before counts as that, in both.
    """
    found = [answer(*case) for case in LOSSES]
    written(*found)
    found = torch.tensor(found, dtype=torch.float64)
    before, plain, method = torch.tensor(LOSSES, dtype=torch.float64).T
    rises = [(after / before - 1) for after in (method, plain)]
    ours, theirs = (rise.clamp(min=LEAST_RISE) for rise in rises)
    graded = compare(found, 1 - ours / theirs, place=lambda n: "before {}, plain {}, method {}: the share".format(*LOSSES[n]),
                     separate=True)  # fmt: skip
    if graded.passed:
        return graded
    mistakes = {
        "that compares the losses themselves: subtract the loss before tuning from both first": 1 - method / plain,
        "that is the share of the rise that is left; what is avoided is the rest": ours / theirs,
        "a rise of less than 5 % of the loss before counts as 5 %, in both methods": 1 - rises[0] / rises[1],
        "plain tuning's small rises count as 5 %, too": 1 - ours / rises[1],
        "the method's small rises count as 5 %, too": 1 - rises[0] / theirs,
        "that is the difference alone: divide it by plain tuning's rise": plain - method,
        "that divides by the loss before tuning: divide by plain tuning's rise": (plain - method) / before,
        "a share may lie below 0, where a method forgets more than plain tuning": (1 - ours / theirs).clamp(0, 1),
    }
    hints = [hint for hint, wrong in mistakes.items() if torch.allclose(found, wrong, rtol=1e-3, atol=1e-6)]
    return Grade(False, "; ".join([graded.message, *hints[:1]]))
