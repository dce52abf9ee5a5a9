"""Before any tuning: how well does the untouched model denoise the new pictures, part by part of the chain?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.tasks import Task, load_source, spread_evenly
from ..models.pretrained import Pretrained, require_model
from ..sampling import sample
from ..support.kinds import require_kind
from ..support.settings import COUNT, require_within
from ..support.surroundings import undisturbed
from .chain_of_forgetting import losses_by_tenth

DATA_END = 3  # tenths of the chain that should transfer without tuning


@undisturbed
def transferability(
    pretrained: Pretrained, task: Task, *, own: Task | None = None, pictures: int = 250, seed: int = 0
) -> dict[str, Tensor | float]:
    """The untouched model's loss on the task's pictures against its loss on pictures of its own, without labels.

    `own` are pictures that the model knows the kind of but was not trained on.  None takes the tiny world's held-out source
    pictures for a model of the tiny world, and for any other model pictures that it draws itself (unguided, without a label).

    Returns for each tenth of the chain, float64 (10,): `target`, `own` and their `ratio` (1: as well as at home), and one
    number, `index`: the mean of log(ratio) over the first three tenths, the part that is said to transfer for free.  The
    paper has no such number; it is our definition.  Costs 20 forward passes for each of up to `pictures` pictures of a kind.
    """

    require_model("pretrained", pretrained)
    require_kind("task", task, Task, "load_task")
    if own is not None:
        require_kind("own", own, Task, "load_task")
    require_within("pictures", pictures, COUNT)
    if pretrained.takes_prompts:
        raise ValueError(f"{pretrained.name} is told what to draw by prompts: transferability is measured on a model of labels")

    def losses(images: Tensor) -> Tensor:
        return losses_by_tenth(pretrained, images, torch.full((len(images),), pretrained.null_label), each=2, seed=seed)

    target = losses(task.read(spread_evenly(len(task), min(pictures, len(task)))))
    own = held_out_source(pretrained) if own is None else own
    if own is None:
        drawn = sample(pretrained, torch.full((pictures,), pretrained.null_label), guidance=1, seed=seed)
    else:
        drawn = own.read(spread_evenly(len(own), min(pictures, len(own))))
    home = losses(drawn)
    ratio = target / home
    return {"target": target, "own": home, "ratio": ratio, "index": float(ratio[:DATA_END].log().mean())}


def held_out_source(pretrained: Pretrained) -> Task | None:
    """The tiny world's held-out source pictures for a model of the tiny world, None for any other."""
    try:
        source = load_source("heldout")
    except FileNotFoundError:  # a model of the user's own needs no tiny world
        return None
    return source if pretrained.label_names == source.class_names else None
