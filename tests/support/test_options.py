"""A function of the user's own, as a run's record names it."""

from __future__ import annotations

from functools import partial

from difftuning.support.options import describe


class Captioner:
    """Without a __repr__ of its own."""

    def __call__(self, images, names):
        return names


def captions(images, names, called):
    return [called] * len(names)


def test_what_a_record_says_of_a_function_does_not_depend_on_its_place_in_memory():
    both = [Captioner() for _ in range(2)]
    assert describe(both[0]) == describe(both[1]) and "Captioner" in describe(both[0])
    said = describe(partial(captions, called="shoe"))
    assert " at 0x" not in said and "captions" in said and "shoe" in said and said != describe(partial(captions, called="boot"))


def test_a_function_is_named_by_its_module():
    assert describe(captions) == f"{__name__}.captions" and describe("lora") == "lora"
