"""LoRA by peft, injected into diffusers' transformer: the class stays, chosen linear layers get two small factors.

W x + b  ->  W x + b + alpha / rank B A x        A (rank, in) random, B (out, rank) zero at the start
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ...support.files import load_tensors, save_tensors

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TARGETS = {"query_value": ["to_q", "to_v"], "attention": _ATTENTION, "all": [*_ATTENTION, "ff.net.0.proj", "ff.net.2"]}
WEIGHTS = "adapter_model.safetensors"  # peft's file name; its own of the options is adapter_config.json
_OURS, _PEFTS = ("transformer.", ".default.weight"), ("base_model.model.", ".weight")  # how names begin and end


def add_lora(denoiser: nn.Module, rank: int, alpha: float, targets: str) -> None:
    """Put peft's low-rank updates on the targeted linear layers, in place; ValueError for a rank that no update of one has."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install peft") from error
    ends = tuple(TARGETS[targets])
    smallest = min(min(layer.weight.shape) for name, layer in denoiser.transformer.named_modules() if name.endswith(ends))
    if rank > smallest:
        raise ValueError(
            f"rank={rank} is above the smallest side, {smallest}, of the layers that LoRA goes into: no update has a higher rank"
        )
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS[targets]), denoiser.transformer)


def is_lora(name: str) -> bool:
    """Whether a parameter's name is of one of the two factors."""
    return ".lora_A." in name or ".lora_B." in name


def write_peft(folder: Path, denoiser: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The factors in peft's own format, as `PeftModel.from_pretrained(transformer, folder)` reads it."""
    save_tensors(folder / WEIGHTS, {_renamed(name, _OURS, _PEFTS): tensor for name, tensor in tensors.items()})
    denoiser.transformer.peft_config["default"].save_pretrained(str(folder))


def read_peft(folder: Path) -> dict[str, Tensor]:
    """The factors in a folder of peft's own format, by the names that they have here."""
    return {_renamed(name, _PEFTS, _OURS): tensor for name, tensor in load_tensors(folder / WEIGHTS).items()}


def forget_peft(denoiser: nn.Module) -> None:
    """What peft has noted on the transformer, and would take for an adapter that is still there."""
    for note in ("peft_config", "_hf_peft_config_loaded"):
        if hasattr(denoiser.transformer, note):
            delattr(denoiser.transformer, note)


def _renamed(name: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    return new[0] + name.removeprefix(old[0]).removesuffix(old[1]) + new[1]
