from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from neurochains.errors import DataError, SettingsError
from neurochains.pictures import data_uri, jpeg, png

SMOOTH = (np.add.outer(np.arange(64), np.arange(80))[None] + np.array([0, 30, 60])[:, None, None]).astype(np.uint8)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_png_is_lossless_in_both_orders_and_from_tensors() -> None:
    expected = SMOOTH.transpose(1, 2, 0)
    assert np.array_equal(decoded(png(SMOOTH)), expected)
    assert np.array_equal(decoded(png(expected)), expected)
    assert png(torch.from_numpy(SMOOTH)) == png(SMOOTH)
    assert decoded(png(SMOOTH[:1])).shape == (64, 80, 3)


def test_jpeg_is_close_and_smaller_for_photographs() -> None:
    noisy = np.clip(SMOOTH + np.random.default_rng(0).normal(0, 8, SMOOTH.shape), 0, 255).astype(np.uint8)
    data = jpeg(noisy)
    assert len(data) < len(png(noisy)) / 2
    assert np.abs(decoded(data).astype(int) - noisy.transpose(1, 2, 0)).mean() < 8
    assert len(jpeg(noisy, quality=40)) < len(data)


@pytest.mark.parametrize(("photo", "kind"), [(False, "png"), (True, "jpeg")])
def test_data_uris_hold_the_bytes(photo: bool, kind: str) -> None:
    head, _, body = data_uri(SMOOTH, photo=photo).partition(",")
    assert head == f"data:image/{kind};base64"
    assert data_uri(SMOOTH) == data_uri(SMOOTH, photo=False)
    assert base64.b64decode(body) == (jpeg(SMOOTH) if photo else png(SMOOTH))


def test_bad_input_is_named() -> None:
    with pytest.raises(SettingsError, match="JPEG quality lies within 1 and 95, got 100"):
        jpeg(SMOOTH, quality=100)
    with pytest.raises(DataError, match="expected a picture"):
        png(SMOOTH.astype(float))
