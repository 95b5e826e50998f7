"""Odd and damaged scans through the real weldnet-predict."""

import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from calling import exit_code
from encoding import RAMP, build_tiff, encode, make_dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from untrained import save_untrained

pytestmark = pytest.mark.slow

TAGS: dict[int, int | list[int]] = {256: 20, 257: 24, 258: 16, 262: 1, 277: 1, 278: 24}
LZW = encode(Image.fromarray(np.arange(90 * 200, dtype=np.uint16).reshape(200, 90)), "TIFF", compression="tiff_lzw")
# The words of the error, or nothing where a verdict is due.
FILES: dict[str, tuple[bytes, str]] = {
    "big-endian.tif": (build_tiff([RAMP.astype(">u2").tobytes()], TAGS, order=">", big=True), ""),
    "deflate.tif": (build_tiff([zlib.compress(RAMP.tobytes())], TAGS | {259: 8}), ""),
    "planes.tif": (build_tiff([RAMP.tobytes()] * 3, TAGS | {258: [16] * 3, 262: 2, 277: 3, 284: 2}), ""),
    "private.tif": (build_tiff([RAMP.tobytes()], TAGS | {259: 50013}), "compression 50013 .* weldnet reads .* save it"),
    "lzw.tif": (LZW[:100] + b"\x55" * 200 + LZW[300:], "this TIFF cannot be decoded: it is damaged"),
    "cut.tif": (LZW[: len(LZW) // 2], "truncated"),
    "bare.dcm": (make_dicom(RAMP)[132:], ""),
    "rle.dcm": (
        make_dicom(RAMP, syntax=RLELossless, BitsAllocated=1, BitsStored=1, PixelData=encapsulate([b"abcd"])),
        "'RLE Lossless' of 1 bit a pixel; weldnet reads",
    ),
    "rows.dcm": (make_dicom(RAMP, Rows=48), "damaged DICOM"),
    "frame.dcm": (make_dicom(RAMP, syntax=RLELossless, PixelData=encapsulate([b"abcd"])), "damaged DICOM"),
}


def test_a_row_for_each_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_untrained(tmp_path / "a.ckpt", backbone="test_resnet")
    (tmp_path / "scans").mkdir()
    for name, (content, _) in FILES.items():
        (tmp_path / "scans" / name).write_bytes(content)
    folder = tmp_path / "out"
    arguments = (f"ckpt_path={tmp_path / 'a.ckpt'}", f"source={tmp_path / 'scans'}", f"output_dir={folder}")
    assert exit_code("predict", *arguments) == 1
    output = capfd.readouterr()
    rows = {Path(row["path"]).name: row for row in pl.read_csv(folder / "predictions.csv").iter_rows(named=True)}
    assert set(rows) == set(FILES)
    for name, (_, words) in FILES.items():
        error = rows[name]["error"] or ""
        assert bool(error) == bool(words), (name, error)
        assert not words or pl.Series([error]).str.contains(words).all(), (name, error)
        assert "\n" not in error
        assert bool(rows[name]["predicted"]) != bool(error)
    assert not [foreign for foreign in ("Traceback", "tempfile", "pydicom.", "Warning") if foreign in output.err]
