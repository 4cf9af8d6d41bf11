"""Files that nobody meant to send: of every mode and form, and damaged ones; each is RGB, or refused in words."""

import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sendnn_pipeline.multimodal.pictures import PictureError, check_picture, open_picture
from tests.multimodal.test_pictures import endless
from tests.multimodal.vision_models import file_of, picture

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
FORMS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def files_of(mode):
    """Return the files of a picture in every form that writes its mode."""
    grey = picture(23, 17).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    else:
        image = Image.new(mode, (23, 17)) if mode in ("LAB", "HSV", "LA", "RGBX") else grey.convert(mode)
    found = {}
    for form in FORMS:
        try:
            found[form] = file_of(image, form)
        except (OSError, ValueError, KeyError):
            continue
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_any_mode_is_read_in_rgb(mode):
    files = files_of(mode)
    for form, file in files.items():
        checked = check_picture(file)
        opened = open_picture(checked.data)
        assert (opened.mode, opened.size) == ("RGB", (23, 17)) == ("RGB", (checked.width, checked.height)), form
        if mode in ("L", "RGB", "I;16", "P") and form in ("PNG", "TIFF"):
            assert np.asarray(opened).std() > 10, f"{mode} as {form} shows nothing"
    assert files or mode == "HSV"


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_are_refused_in_words(form):
    numbers, whole = random.Random(form), file_of(picture(40, 30), form)
    damaged = [whole[: numbers.randrange(len(whole))] for _ in range(40)]
    for _ in range(120):
        file = bytearray(whole)
        for _ in range(numbers.choice((1, 3, 20))):
            # The head of a file says the most.
            at = numbers.randrange(numbers.choice((64, len(file))) % len(file) or 1)
            file[at] = numbers.randrange(256)
        damaged.append(bytes(file))
    refused = 0
    for file in damaged:
        try:
            opened = open_picture(check_picture(file, max_pixels=2**20).data)
            assert opened.mode == "RGB"
        except PictureError as error:
            refused += 1
            assert str(error).startswith(("is ", "has "))
    assert refused > 20


def padded(text):
    """Return a PNG with a text of many bytes that are few in the file."""
    about = PngImagePlugin.PngInfo()
    about.add_itxt("comment", text, zip=True)
    return file_of(picture(8, 8), pnginfo=about)


def test_what_is_beside_the_pixels_cannot_be_a_bomb():
    with pytest.raises(PictureError):
        check_picture(padded("a" * 200_000_000))
    assert check_picture(padded("a" * 1000)).width == 8
    profile = zlib.compress(bytes(200_000_000))
    stream = io.BytesIO()
    picture(8, 8).save(stream, "PNG", icc_profile=b"x")
    data = stream.getvalue()
    at = data.index(b"iCCP")
    body = b"ICC Profile\0\0" + profile
    chunk = len(body).to_bytes(4, "big") + b"iCCP" + body + zlib.crc32(b"iCCP" + body).to_bytes(4, "big")
    length = int.from_bytes(data[at - 4 : at], "big")
    bomb = data[: at - 4] + chunk + data[at + 8 + length :]
    try:
        assert check_picture(bomb).width == 8
    except PictureError as error:
        assert str(error)


def test_orientations_turn_the_size_and_a_broken_one_turns_nothing():
    for turn, size in ((1, (30, 20)), (3, (30, 20)), (6, (20, 30)), (8, (20, 30)), (99, (30, 20))):
        exif = Image.Exif()
        exif[0x0112] = turn
        checked = check_picture(file_of(picture(30, 20), "JPEG", exif=exif))
        assert (checked.width, checked.height) == size
    plain, turned = (check_picture(file_of(picture(30, 30), "PNG", exif=exif)) for exif in (Image.Exif(), with_turn(3)))
    # Equal bytes of pixels, shown otherwise: another picture.
    assert plain.digest != turned.digest


def with_turn(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def test_equal_bytes_of_another_mode_or_size_are_another_picture():
    pixels = bytes(range(240))
    modes = [Image.frombytes("L", (24, 10), pixels), Image.frombytes("RGB", (8, 10), pixels),
             Image.frombytes("L", (10, 24), pixels), Image.frombytes("RGBA", (6, 10), pixels),
             Image.frombytes("RGB", (10, 8), pixels)]  # fmt: skip
    assert len({check_picture(file_of(one)).digest for one in modes}) == 5
    # Of another mode and the same to see: the same picture.
    grey = Image.frombytes("L", (24, 10), pixels)
    assert check_picture(file_of(grey)).digest == check_picture(file_of(grey.convert("RGB"))).digest


def test_an_animation_is_its_first_picture_whatever_follows():
    first = Image.new("RGB", (8, 8), "red")
    stream = io.BytesIO()
    first.save(stream, "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")] * 50, lossless=True)
    assert open_picture(stream.getvalue()).getpixel((0, 0))[0] > 200
    assert check_picture(stream.getvalue()).digest == check_picture(file_of(first)).digest
    assert check_picture(endless()).width == 8
