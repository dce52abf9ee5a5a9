"""The memory bank: pictures sampled once from the pre-trained model, replayed while fine-tuning."""

from .bank import MemoryBank
from .shards import repair_bank, require_same_model

__all__ = ["MemoryBank", "repair_bank", "require_same_model"]
