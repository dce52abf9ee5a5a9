"""The adapters by name, each a small dataclass of its options: free of torch, so that the command line can read them.

An adapter is called with a denoiser and changes it in place: it adds its modules and lets what it trains require a gradient.
All else has been frozen before, and the label table is opened after it (adapters/apply.py).  A new one is a file with its
function, a dataclass here, and a line in `ADAPTERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Literal

from ...support.settings import COUNT, POSITIVE, Setting, check_settings, setting, settings_of

if TYPE_CHECKING:
    from torch import nn

Targets = Literal["query_value", "attention", "all"]


@dataclass(frozen=True, kw_only=True)
class BitFit:
    """All biases, nothing else (Ben Zaken, Ravfogel, Goldberg, ACL 2022)."""

    def __call__(self, denoiser: nn.Module) -> None:
        from .biases import train_biases

        train_biases(denoiser)


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank updates W + alpha/rank B A of chosen linear layers, B = 0 at the start (Hu et al., ICLR 2022), by peft.

    Which layers: of each attention the queries and values, as that paper has it, or all four projections; or these and
    both layers of the MLP.
    """

    rank: int = setting(8, "of LoRA's two factors", COUNT)
    alpha: float | None = setting(None, "LoRA's update is scaled by alpha / rank; none: 1", POSITIVE)
    targets: Targets = setting("query_value", "layers that LoRA updates")

    def __post_init__(self):
        check_settings(self)

    def __call__(self, denoiser: nn.Module) -> None:
        from .lora import add_lora

        add_lora(denoiser, self.rank, self.rank if self.alpha is None else self.alpha, self.targets)


@dataclass(frozen=True, kw_only=True)
class DiffFit:
    """Biases, norms, and new scales after attention and MLP of the first `depth` blocks (Xie et al., ICCV 2023)."""

    depth: int | None = setting(None, "blocks that DiffFit gives scales; none: the first half", COUNT)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, denoiser: nn.Module) -> None:
        from .biases import add_scales

        add_scales(denoiser, self.depth)


@dataclass(frozen=True, kw_only=True)
class AdaptFormer:
    """A narrow MLP beside the MLP of each block, or after it (Chen et al., NeurIPS 2022; Houlsby et al., ICML 2019)."""

    bottleneck: int = setting(64, "width of AdaptFormer's MLP", COUNT)
    scale: float = setting(0.1, "what AdaptFormer's MLP is multiplied by", POSITIVE)
    parallel: bool = setting(False, "AdaptFormer's MLP beside the block's MLP, not after it")

    def __post_init__(self):
        check_settings(self)

    def __call__(self, denoiser: nn.Module) -> None:
        from .adaptformer import add_bottlenecks

        add_bottlenecks(denoiser, self.bottleneck, self.scale, self.parallel)


@dataclass(frozen=True, kw_only=True)
class VPT:
    """VPT-Deep: every block gets tokens of its own, and drops them at its end (Jia et al., ECCV 2022)."""

    tokens: int = setting(10, "that VPT puts before the picture's, in each block", COUNT)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, denoiser: nn.Module) -> None:
        from .vpt import add_prompts

        add_prompts(denoiser, self.tokens)


Adapter = Callable[["nn.Module"], None]  # one of the above, or a function that adds nothing
ADAPTERS: dict[str, Any] = {
    "bitfit": BitFit(),
    "lora": LoRA(),
    "difffit": DiffFit(),
    "adaptformer": AdaptFormer(),
    "adaptformer_parallel": AdaptFormer(parallel=True),
    "vpt": VPT(),
}


def settings() -> dict[str, Setting]:
    """All options of all adapters, as text."""
    return {name: each for adapter in ADAPTERS.values() for name, each in settings_of(type(adapter)).items()}


def name_of(adapter: Any) -> str | None:
    """The name of such an adapter, whatever its options; None for a user's own function."""
    return next((name for name, known in ADAPTERS.items() if type(known) is type(adapter)), None)
