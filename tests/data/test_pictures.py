"""Pictures come as ADM crops and resizes them, upright, in RGB, and only where decoding is safe."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from difftuning.data.tasks import load_task


def adm_center_crop(picture: Image.Image, size: int) -> np.ndarray:
    """`center_crop_arr` of openai/guided-diffusion (MIT), as facebookresearch/DiT has it."""
    while min(*picture.size) >= 2 * size:
        picture = picture.resize(tuple(x // 2 for x in picture.size), resample=Image.BOX)
    scale = size / min(*picture.size)
    picture = picture.resize(tuple(round(x * scale) for x in picture.size), resample=Image.BICUBIC)
    array = np.array(picture)
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[y : y + size, x : x + size]


@pytest.mark.parametrize("size", [13, 24, 100])
def test_a_folder_gives_the_pixels_of_adm_preprocessing(flowers, size):
    task = load_task(flowers, size=size)
    assert task.class_names == ["aster", "rose", "tulip"] and task.labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = adm_center_crop(Image.open(flowers / "rose" / "1.png").convert("RGB"), size)
    assert torch.equal(task.read([3])[0], torch.from_numpy(expected).permute(2, 0, 1).float() / 127.5 - 1)
    assert (task.name, task.card, task.flip) == ("flowers", {}, False)


def test_exif_orientation_is_applied(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    picture = Image.new("RGB", (16, 16), "black")
    picture.paste("white", (0, 0, 16, 8))  # white above black
    exif = Image.Exif()
    exif[0x0112] = 3  # "turned by 180 degrees"
    picture.save(tmp_path / "set" / "a" / "turned.png", exif=exif)
    image = load_task(tmp_path / "set", size=16).images[0]
    assert (image[:, :8] == -1).all() and (image[:, 8:] == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white_paper(tmp_path, mode):
    """A black disc on nothing, where the hidden colour is black as well."""
    icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (2, 2, 6, 6))
    (tmp_path / "icons" / "disc").mkdir(parents=True)
    icon.convert(mode).save(tmp_path / "icons" / "disc" / "0.png")
    (image,) = load_task(tmp_path / "icons", size=8).images
    assert image[:, 0, 0].tolist() == [1, 1, 1] and image[:, 4, 4].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_pictures_of_every_8_bit_mode_become_rgb(tmp_path, mode):
    (tmp_path / "set" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / "set" / "a" / ("p.tiff" if mode == "CMYK" else "p.png"))
    assert (load_task(tmp_path / "set", size=8).images == 1).all()


@pytest.mark.parametrize("limit", [3000, 1000])  # pillow warns at 4800 pixels above the first, raises above the second
def test_a_decompression_bomb_is_refused_before_decoding(flowers, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match="aster/0.png is no picture that can be read safely .DecompressionBomb"):
        load_task(flowers, size=8)


def exif(*entries: bytes) -> bytes:
    """An EXIF block: "turned by 180 degrees", and what else is given."""
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 3)
    parts = [*entries, orientation]
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(parts)) + b"".join(parts) + b"\0\0\0\0"


ODD = {
    "a text where a number belongs": exif(struct.pack("<HHI4s", 0x0100, 2, 3, b"ab")),
    "a negative width": exif(struct.pack("<HHIi", 0x0100, 9, 1, -5)),
    "not a number": exif(struct.pack("<HHIf", 0x0100, 11, 1, float("nan"))),
    "an unknown type": exif(struct.pack("<HHI4s", 0x9000, 77, 1, b"abcd")),
    "a place beyond the end": exif(struct.pack("<HHII", 0x8769, 4, 1, 99999)),
    "a text beyond the end": exif(struct.pack("<HHII", 0x010F, 2, 5000, 99999)),
}
BROKEN = {"garbage": b"Exif\0\0garbage!!!", "cut off": exif()[:20], "empty": b"Exif\0\0"}


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize("case", [*ODD, *BROKEN])
@pytest.mark.filterwarnings("error")
def test_odd_entries_beside_the_orientation_do_not_matter_and_a_broken_block_says_nothing(tmp_path, kind, case):
    (tmp_path / "set" / "a").mkdir(parents=True)
    picture = Image.new("RGB", (16, 16), "black")
    picture.paste("white", (0, 0, 16, 8))  # white above black
    picture.save(tmp_path / "set" / "a" / f"turned.{kind}", exif={**ODD, **BROKEN}[case], **({"lossless": True} if kind == "webp" else {}))
    (image,) = load_task(tmp_path / "set", size=16).images
    above, below = (1, -1) if case in BROKEN else (-1, 1)
    assert (image[:, 2:6] - above).abs().max() < 0.05 and (image[:, 10:14] - below).abs().max() < 0.05
