"""The two ControlNets for edges that come with lesson 08."""

from __future__ import annotations

from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...support.world import data_folder

TUNED = {"plain": "controlnet_edge_plain", "Diff-Tuning": "controlnet_edge_diff_tuning"}  # data/build/make_controlnets.py makes them


def load_tuned(device: str = "cpu") -> dict[str, Pretrained]:
    """By method; FileNotFoundError where they are not there."""
    return {method: load_pretrained(data_folder() / "models" / name, device=device) for method, name in TUNED.items()}
