"""A vocabulary of our own for CLIP's tokenizer: letters, digits, and the pieces that a list of words is made of.

Byte-pair encoding (Sennrich, Haddow and Birch, ACL 2016): from letters on, the pair of pieces that stands most often side by
side becomes a piece itself.  Words that were not in the list are spelled with shorter pieces.
"""

from __future__ import annotations

import json
import re
import string
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Iterable

from ..support.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MERGES = 1000  # at most; enough for some 400 words to become one piece each
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation  # CLIP's tokenizer makes capitals small
END = "</w>"  # marks a piece that ends a word


def build_tokenizer(captions: Iterable[str], *, max_tokens: int) -> CLIPTokenizer:
    """A stock CLIPTokenizer whose pieces are learned from the words of `captions`; the same words give the same vocabulary.

    A prompt becomes `max_tokens` tokens, start and end included; what is longer is cut off, as Stable Diffusion does.
    """
    merges = learn_merges({word for caption in captions for word in re.findall("[a-z]+", caption.lower())}, MERGES)
    pieces = [*CHARACTERS, *(character + END for character in CHARACTERS), *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        from transformers import CLIPTokenizer

        files = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        files[0].write_text(json.dumps(vocabulary), encoding="utf-8")
        files[1].write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]), encoding="utf-8", newline="\n")
        return CLIPTokenizer(*map(str, files), model_max_length=max_tokens)


def learn_merges(words: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` merges of byte-pair encoding, fewer where every word is one piece before; of equally frequent pairs the first by the alphabet."""
    spelled = [[*word[:-1], word[-1] + END] for word in sorted(set(words))]
    merges = []
    while len(merges) < count:
        pairs = Counter(pair for pieces in spelled for pair in zip(pieces, pieces[1:]))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(pieces, best) for pieces in spelled]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
