"""The memory that a training needs, counted part by part: of the tiny DiT, and of DiT-XL/2, whose shapes are enough for it.

weights + gradients + the optimizer's two moments + the moving average + activations

The first four are numbers of weights times four bytes.  Activations are what the forward pass keeps for the backward pass;
autograd says of each tensor that it keeps it, on the meta device, too, where tensors have shapes and no memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from ..models.dit import build_dit

if TYPE_CHECKING:
    from ..models.dit import DiT

BATCH = 32


class Memory(NamedTuple):
    """Bytes of each part, in float32."""

    weights: int
    gradients: int
    optimizer: int  # Adam's two moments
    average: int
    activations: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)


def training_memory(denoiser: DiT, batch: int = BATCH) -> Memory:
    """What training those weights that require a gradient takes with so many pictures in a batch; the denoiser may lie on the meta device."""
    device = denoiser.label_table.device
    x_t = torch.zeros(batch, *denoiser.latent_shape, device=device)
    zeros = torch.zeros(batch, dtype=torch.int64, device=device)
    weights = list(denoiser.parameters())
    trained = 4 * sum(weight.numel() for weight in weights if weight.requires_grad)
    kept = kept_bytes(lambda: denoiser(x_t, zeros, zeros), weights)
    return Memory(4 * sum(weight.numel() for weight in weights), trained, 2 * trained, trained, kept)


def kept_bytes(forward: Callable[[], Tensor], weights: list[nn.Parameter]) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward pass, each once, the weights themselves left out.

    Attention counts as fused kernels keep it: never a matrix of every token against every other.
    """
    own = {weight.untyped_storage()._cdata for weight in weights}
    kept: dict[int, torch.UntypedStorage] = {}  # held here, so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor), _FusedAttention():
        output = forward()
    del output
    return sum(storage.nbytes() for storage in kept.values())


class _FusedAttention(TorchFunctionMode):
    """The CPU's fused attention kernel on every device: on the meta device torch would take the formula, which keeps the matrix."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return function(*args, **(kwargs or {}))


def dit_xl(pixels: int = 256) -> DiT:
    """DiT-XL/2 for square pictures of so many pixels a side (256 or 512), without its weights: shapes alone."""
    side = pixels // 8  # of the latents
    with torch.device("meta"):
        return build_dit(width=1152, num_heads=16, num_layers=28, latent_shape=(4, side, side), norm_eps=1e-6, frequency_shift=0)
