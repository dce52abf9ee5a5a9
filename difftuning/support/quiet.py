"""transformers, where it is needed, without the notes and bars that it prints while models are loaded and saved."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import Iterator


def require_transformers() -> None:
    """ImportError in one line where it is not installed; most of the package does without."""
    if find_spec("transformers") is None:
        raise ImportError("a text-to-image model needs transformers: pip install transformers")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back its notes (of torchvision, which nothing here needs) and bars, if it is installed."""
    if find_spec("transformers") is None:
        yield
        return
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
