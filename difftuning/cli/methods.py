"""What `train` is told beside its settings: an adapter, a regularizer, early stopping, and the options of each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from ..models.adapters import options as adapters
from ..support.options import require_choice, with_options
from ..support.settings import Setting
from ..training import regularizers

if TYPE_CHECKING:
    from ..config import DiffTuningConfig
    from ..data.tasks import Task
    from ..models.pretrained import Pretrained
    from ..training.early_stopping import EarlyStopping

VALIDATION = "validation"  # the task's own split of that name
STOPPING = {  # EarlyStopping's own
    "every": Setting("int", "100", "steps from one check to the next"),
    "patience": Setting("int", "5", "checks without a lower loss after which training ends"),
    "draws": Setting("int", "256", "pictures of each check"),
}
# Of each role, its options by the names of their flags.
SETTINGS = {
    "adapter": adapters.settings(),
    "regularizer": {f"regularizer_{name}": option for name, option in regularizers.settings().items()},
    "early_stopping": {f"early_stopping_{name}": option for name, option in STOPPING.items()},
}
METHOD_SETTINGS = {name: option for options in SETTINGS.values() for name, option in options.items()}


def taken(role: str, options: dict[str, str], settings: dict[str, Any]) -> dict[str, Any]:
    """The options of a role by their own names, taken out of `settings`; ValueError where they are given without it."""
    own = {name: settings.pop(name) for name in SETTINGS[role] if name in settings}
    if own and role not in options:
        first, flag = next(iter(own)).replace("_", "-"), role.replace("_", "-")
        raise ValueError(f"--{first} is an option of --{flag}: give both")
    return {name.removeprefix(f"{role}_"): value for name, value in own.items()}


def chosen(role: str, options: dict[str, str], settings: dict[str, Any]) -> Any:
    """The adapter or regularizer that is asked for, its options taken out of `settings`; None where none is."""
    table = {"adapter": adapters.ADAPTERS, "regularizer": regularizers.REGULARIZERS}[role]
    own = taken(role, options, settings)
    if role not in options:
        return None
    require_choice(role, options[role], table)
    with _named(role):
        return with_options(options[role], table, own)


@contextmanager
def _named(role: str) -> Iterator[None]:
    """Errors within begin with the flag that chose what they speak of: an option's own name would not say whose it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"--{role.replace('_', '-')}: {error}") from error


def early_stopping(model: Pretrained, config: DiffTuningConfig, place: str, task: Task, source: str, own: dict[str, int]) -> EarlyStopping:
    """Early stopping on the pictures of `place`: the validation split of the task, which comes from `source`, or a set of the user's."""
    from ..data.sets import NoSplitError
    from ..data.tasks import load_task
    from ..training.early_stopping import EarlyStopping, require_other_pictures

    try:
        source, split = (source, VALIDATION) if place == VALIDATION else (place, "train")
        pictures = load_task(source, split=split, size=model.image_size)
    except NoSplitError as error:
        raise ValueError(f"{source} has no {split} pictures: give --early-stopping a folder or npz file of others") from error
    require_other_pictures(pictures, task)  # before the long encoding
    with _named("early_stopping"):
        return EarlyStopping(model, pictures, config, **own)
