"""The default forward process."""

from __future__ import annotations

import pytest

from difftuning.diffusion.process import Diffusion


@pytest.fixture(scope="session")
def diffusion() -> Diffusion:
    return Diffusion()
