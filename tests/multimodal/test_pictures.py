"""Files of pictures: odd ones are read the right way, and bombs refused before they cost anything."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from sendnn_pipeline.multimodal.pictures import PictureError, check_picture, open_picture
from sendnn_pipeline.multimodal.row_cache import RowCache
from tests.multimodal.vision_models import file_of, picture


def test_equal_pictures_have_one_digest_whatever_their_files():
    image = picture(30, 20)
    files = [file_of(image), file_of(image, "BMP"), file_of(image, "TIFF"), file_of(image, "WEBP", lossless=True)]
    assert len({check_picture(file).digest for file in files}) == 1
    others = [picture(30, 20, 1), picture(20, 30), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert len({check_picture(file_of(other)).digest for other in [image, *others]}) == 4


def test_odd_pictures_become_rgb_the_right_way_up():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = check_picture(file_of(picture(30, 20), "JPEG", exif=exif))
    assert (turned.width, turned.height) == (20, 30) == open_picture(turned.data).size
    palette = file_of(picture(30, 20).quantize(8))
    grey = Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16))
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert open_picture(palette).mode == "RGB"
    assert np.asarray(open_picture(file_of(grey)))[0, :, 0].tolist() == [0, 1, 255]
    assert open_picture(file_of(clear)).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(file_of(Image.new("1", (9, 9), 1))).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(file_of(Image.new("CMYK", (9, 9)), "JPEG")).mode == "RGB"


def bomb():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))


def endless():
    frames = [Image.new("P", (8, 8), shade) for shade in range(200)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], loop=0)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture of the forms PNG"),
        (b"%!PS-Adobe", "is no picture"),
        (bomb(), "pixels"),
        (file_of(picture(300, 300))[:-5000], "is broken"),
        (file_of(picture(300, 300), "JPEG")[:2000], "is broken"),
        (file_of(picture(40, 40)), "has 40 x 40 pixels, and 1,000 are the most that are taken"),
    ],
)
def test_what_is_no_picture_is_refused_before_memory_is_spent(data, message):
    check_picture(file_of(picture(3, 3)))
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=message):
            check_picture(data, 1_000 if "1,000" in message else 2**25)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_of_a_film_the_first_picture_is_taken():
    assert check_picture(endless()).width == 8


def test_rows_are_kept_by_bytes_and_by_last_use():
    cache = RowCache(100)
    for name in "abc":
        cache.put(name.encode(), np.zeros(40, np.uint8))
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [True, False, False]
    cache.get(b"b")
    cache.put(b"d", np.zeros(40, np.uint8))
    cache.put(b"e", np.zeros(101, np.uint8))
    assert len(cache) == 2 and cache.num_bytes == 80 and cache.get(b"b") is not None and cache.get(b"e") is None
    off = RowCache(0)
    off.put(b"a", np.zeros(1, np.uint8))
    assert len(off) == 0
