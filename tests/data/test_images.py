from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurochains.data.images import FORMATS, read_image, to_rgb
from neurochains.errors import DataError, ImageError

RED, BLUE = (200, 10, 20), (10, 20, 200)


def coloured(size=(6, 4), colour=RED) -> Image.Image:
    return Image.new("RGB", size, colour)


def halves() -> Image.Image:
    """Return 8 x 4 pixels, red on the left and blue on the right."""
    image = coloured((8, 4))
    image.paste(BLUE, (4, 0, 8, 4))
    return image


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def noise(size=(64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_declared_size(path: Path, width: int, height: int) -> Path:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif", "jpg", "webp", "jp2"])
def test_a_still_picture_is_read_with_the_digest_of_its_bytes(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", coloured(), **({"lossless": True} if suffix == "webp" else {}))
    picture = read_image(path)
    assert (picture.image.mode, picture.image.size) == ("RGB", (6, 4))
    assert np.abs(np.asarray(picture.image, dtype=int) - RED).max() <= (3 if suffix == "jpg" else 0)
    assert picture.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_path_can_be_a_string(tmp_path):
    assert read_image(str(saved(tmp_path / "a.png", coloured()))).image.size == (6, 4)


def test_grey_becomes_three_equal_channels(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    picture = read_image(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert (np.asarray(picture.image) == values[..., None]).all()


@pytest.mark.parametrize("mode", ["1", "L"])
def test_black_and_white_ends_stay_black_and_white(tmp_path, mode):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 255)
    assert np.asarray(read_image(saved(tmp_path / "a.png", image)).image)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(("mode", "ink"), [("RGBA", (0, 0, 0)), ("LA", (0,))])
def test_transparency_is_laid_on_white(tmp_path, mode, ink):
    image = Image.new(mode, (3, 1))
    for column, alpha in enumerate((0, 51, 255)):
        image.putpixel((column, 0), (*ink, alpha))
    assert np.asarray(read_image(saved(tmp_path / "a.png", image)).image)[0, :, 0].tolist() == [255, 204, 0]


def test_a_palette_with_one_transparent_colour_is_laid_on_white(tmp_path):
    image = halves().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    left = image.getpixel((0, 0))
    pixels = np.asarray(read_image(saved(tmp_path / "a.png", image, transparency=left)).image)
    assert (pixels[:, :4] == 255).all()
    assert np.abs(pixels[:, 4:].astype(int) - BLUE).max() <= 1


def test_a_palette_with_transparency_for_each_colour_is_read_without_a_warning(tmp_path):
    image = halves().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    pixels = np.asarray(read_image(saved(tmp_path / "a.png", image, transparency=b"\xff\xff")).image)
    assert np.abs(pixels[:, 4:].astype(int) - BLUE).max() <= 1


def test_an_rgb_file_with_a_transparent_colour_is_laid_on_white(tmp_path):
    pixels = np.asarray(read_image(saved(tmp_path / "a.png", halves(), transparency=RED)).image)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == BLUE).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 128 * 257, 40000, 65535]], dtype=np.uint16)
    picture = read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    assert np.asarray(picture.image)[0, :, 1].tolist() == [0, 1, 128, 156, 255]


def test_sixteen_bits_written_in_pgm_are_scaled(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 40000, 65535))
    assert np.asarray(read_image(path).image)[0, :, 0].tolist() == [156, 255]


@given(st.integers(0, 65535))
def test_sixteen_bits_are_scaled_to_the_nearest_eighth(value):
    image = to_rgb(Image.fromarray(np.array([[value]], dtype=np.uint16)))
    assert abs(np.asarray(image)[0, 0, 0] - value / 257) <= 0.5


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_numbers_without_a_range_are_refused(tmp_path, dtype, kind):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), dtype=dtype)))
    with pytest.raises(ImageError, match=rf"a\.tif: The pixels are {kind} numbers.*8 or 16 bits"):
        read_image(path)


def test_cmyk_is_converted(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    red, green, blue = np.asarray(read_image(path).image)[4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_orientation_that_a_camera_wrote_down_is_honoured(tmp_path, orientation, suffix):
    upright = np.arange(8 * 5, dtype=np.uint8).reshape(5, 8).repeat(3).reshape(5, 8, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert (np.asarray(read_image(path).image) == upright).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage that is no directory", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_unreadable_exif_counts_as_none(tmp_path, exif):
    path = saved(tmp_path / "a.jpg", halves(), exif=exif, quality=95)
    assert read_image(path).image.size == (8, 4)


def test_a_decoder_that_fails_on_exif_does_not_cost_the_picture(tmp_path, monkeypatch):
    def broken(_):
        raise SyntaxError("not a TIFF file")

    path = saved(tmp_path / "a.ppm", halves())
    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert read_image(path).image.size == (8, 4)


def test_the_first_picture_of_a_phone_file_is_read(tmp_path):
    path = saved(tmp_path / "a.jpg", coloured(), format="MPO", save_all=True, append_images=[coloured(colour=BLUE)])
    assert np.abs(np.asarray(read_image(path).image, dtype=int) - RED).max() <= 3


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_animation_is_refused_with_the_number_of_frames(tmp_path, suffix):
    others = [coloured(colour=BLUE), coloured(colour=(0, 0, 0))]
    path = saved(tmp_path / f"a.{suffix}", coloured(), save_all=True, append_images=others)
    with pytest.raises(ImageError, match=rf"a\.{suffix} holds 3 frames.*Export the one frame"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"no file .*nowhere\.png.*Check the path"):
        read_image(tmp_path / "nowhere.png")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ImageError, match=r"is a folder.*from_folder"):
        read_image(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="there is no file"):
        read_image(tmp_path / "a.png")


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match=r"a\.png is empty \(0 bytes\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "data", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.4\n", b"\0" * 99]
)
def test_what_is_no_image_is_refused_and_no_other_program_is_run(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.jpg is no image of a known format \(JPEG.*Convert it to PNG"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    path = saved(tmp_path / f"a.{suffix}", noise())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=rf"a\.{suffix} is (a corrupt or truncated|no) image.*remove it"):
        read_image(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path):
    path = saved(tmp_path / "a.png", noise())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png is a corrupt or truncated image \("):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
def test_damage_raises_an_image_error_or_nothing(data, kind, tmp_path_factory):
    buffer = io.BytesIO()
    noise((20, 10)).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.img"
    path.write_bytes(damaged)
    with contextlib.suppress(ImageError):
        assert read_image(path, pixel_limit=10_000).image.mode == "RGB"


@pytest.mark.parametrize("side", [8_001, 9_600, 20_000])  # above our limit, and on either side of Pillow's two
def test_a_bomb_is_refused_on_its_header(tmp_path, side):
    path = png_of_declared_size(tmp_path / "a.png", side, side)
    with pytest.raises(ImageError, match=r"a\.png .*Save it smaller"):
        read_image(path)


def test_the_pixel_limit_is_the_callers(tmp_path):
    path = saved(tmp_path / "a.png", coloured((10, 10)))
    assert read_image(path, pixel_limit=100).image.size == (10, 10)
    with pytest.raises(ImageError, match=r"declares 10 x 10 = 100 pixels; at most 99 are decoded"):
        read_image(path, pixel_limit=99)


def test_a_file_longer_than_any_image_within_the_limit_is_not_read(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(ImageError, match=r"a\.png has 1,048,577 bytes; at most 1,048,576 are read"):
        read_image(path, pixel_limit=1000)


def test_a_ribbon_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", coloured((201, 1)))
    with pytest.raises(ImageError, match=r"201 x 1 pixels; no side may be more than 200 times.*Crop it"):
        read_image(path)


def test_an_unreadable_file_says_why(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", coloured())

    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ImageError, match=r"a\.png cannot be read \(Permission denied\)"):
        read_image(path)


def test_an_image_error_is_a_data_error_and_a_value_error():
    assert issubclass(ImageError, DataError)
    assert issubclass(ImageError, ValueError)


def test_formats_that_run_programs_are_not_read():
    assert not {"EPS", "PDF", "WMF", "FPX", "MIC"} & set(FORMATS)


@pytest.mark.parametrize("index", [0, 134, 999])
def test_real_photographs_are_read(shared_data, tmp_path, index):
    import zipfile

    with zipfile.ZipFile(shared_data / "imagenet-700.zip") as archive:
        name = min(archive.namelist(), key=lambda name: abs(int(name[:4]) - index))
        path = Path(archive.extract(name, tmp_path))
    picture = read_image(path)
    assert min(picture.image.size) == 256
    assert np.asarray(picture.image).std() > 10
