"""TIFFs written byte by byte here, against NumPy; and what is refused, in words."""

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from damaging import zero
from drawing import draw_blobs, draw_noise
from encoding import apply_linear, assert_shows, build_tiff, encode, make_dicom
from numpy.typing import NDArray
from PIL import Image

from weldnet.data.decode.formats import open_picture
from weldnet.data.decode.pictures import UnreadableImage

HEIGHT, WIDTH = 24, 20
COLOUR = draw_noise(HEIGHT, WIDTH)
DEEP = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
GREY = draw_blobs(HEIGHT, WIDTH)[..., 0]
SHADES = np.random.default_rng(1).integers(0, 65536, 3 * 256).tolist()
ALPHA = np.dstack([GREY, draw_noise(HEIGHT, WIDTH, 3)[..., 0]])
INK = draw_noise(HEIGHT, WIDTH, 4)[..., [0, 1, 2, 0]] // 2
HIGH = DEEP.astype(float) / 257


def describe(pixels: NDArray[Any], **tags: int | list[int]) -> dict[int, int | list[int]]:
    """The tags of an array (H, W) or (H, W, C); `tags` are t284=2 and the like."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = [8 * pixels.itemsize] * channels
    known: dict[int, int | list[int]] = {256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 277: channels}
    known |= {262: 2 if channels > 2 else 1, 278: pixels.shape[0]}
    return known | {int(name[1:]): value for name, value in tags.items()}


def strip(pixels: NDArray[Any], order: str = "<", big: bool = False, **tags: int | list[int]) -> bytes:
    data = pixels.astype(f"{order}{pixels.dtype.str[1:]}").tobytes()
    return build_tiff([data], describe(pixels, **tags), order=order, big=big)


def planes(pixels: NDArray[Any], **tags: int | list[int]) -> bytes:
    """Each channel in two strips of its own, the second one lower."""
    parts = [part.tobytes() for channel in np.moveaxis(pixels, 2, 0) for part in (channel[:16], channel[16:])]
    if tags.get("t259") == 8:
        parts = [zlib.compress(part) for part in parts]
    return build_tiff(parts, describe(pixels, t284=2, t278=16, **tags))


def tiles(pixels: NDArray[Any]) -> bytes:
    padded = np.pad(pixels, ((0, 8), (0, 12), (0, 0)), constant_values=77)
    parts = [padded[top : top + 16, left : left + 16].tobytes() for top in (0, 16) for left in (0, 16)]
    return build_tiff(parts, describe(pixels, t322=16, t323=16))


def predict(pixels: NDArray[Any]) -> bytes:
    differences = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).astype(pixels.dtype)
    return build_tiff([zlib.compress(differences.tobytes())], describe(pixels, t259=8, t317=2))


def pack(values: NDArray[Any], bits: int) -> bytes:
    """Each row of whole numbers of `bits` bits, the highest first, filled up to bytes."""
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    rows = [row + "0" * (-len(row) % 8) for row in rows]
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)


def packed(bits: int, **tags: int) -> bytes:
    values = GREY.astype(int) % 2**bits
    return build_tiff([pack(values, bits)], describe(GREY, t258=bits, **tags))


def in_runs(pixels: NDArray[np.uint8]) -> bytes:
    """PackBits, with rows behind the picture in its second strip, as some writers fill it up."""
    rows = np.pad(pixels, ((0, 8), (0, 0)))
    runs = [b"".join(bytes([len(row) - 1]) + row.tobytes() for row in part) for part in (rows[:16], rows[16:])]
    return build_tiff(runs, describe(pixels, t259=32773, t278=16))


def in_codes(data: bytes) -> bytes:
    """LZW of 9 bits a code: cleared before the codes would need 10."""
    codes = [code for start in range(0, len(data), 200) for code in (256, *data[start : start + 200])]
    return pack(np.array([[*codes, 257]]), 9)


def reverse(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


# What a viewer shows under the window full; half a level is left to rounding.
SHOWN: dict[str, tuple[bytes, NDArray[Any]]] = {
    "8-bit planes": (planes(COLOUR), COLOUR),
    "16-bit planes": (planes(DEEP), HIGH),
    "16-bit planes, deflated": (planes(DEEP, t259=8), HIGH),
    "16-bit colour": (strip(DEEP), HIGH),
    "16-bit colour, big-endian": (strip(DEEP, ">"), HIGH),
    "16-bit colour, predicted": (predict(DEEP), HIGH),
    "8-bit colour, predicted": (predict(COLOUR), COLOUR),
    "tiles": (tiles(COLOUR), COLOUR),
    "16-bit tiles": (tiles(DEEP), HIGH),
    "BigTIFF": (strip(DEEP, big=True), HIGH),
    "BigTIFF, big-endian": (strip(DEEP, ">", big=True), HIGH),
    "signed 8 bits": (strip((GREY.astype(np.int16) - 128).astype(np.int8), t339=2), GREY),
    "signed 16 bits, big-endian": (strip((GREY.astype(np.int32) * 257 - 2**15).astype(np.int16), ">", t339=2), GREY),
    "white is zero": (strip(GREY, t262=0), 255 - GREY),
    "white is zero, 16 bits": (strip(DEEP[..., 0], t262=0), 255 - HIGH[..., 0]),
    "1 bit": (packed(1), GREY % 2 * 255),
    "1 bit, lowest first": (build_tiff([reverse(pack(GREY % 2, 1))], describe(GREY, t258=1, t266=2)), GREY % 2 * 255),
    "Deflate, lowest first": (
        build_tiff([reverse(zlib.compress(COLOUR.tobytes()))], describe(COLOUR, t259=8, t266=2)),
        COLOUR,
    ),
    **{f"{bits} bits": (packed(bits), (GREY % 2**bits) * (255 / (2**bits - 1))) for bits in (2, 4, 6, 7)},
    **{f"{bits} bits": (packed(bits), GREY * (255 / (2**bits - 1))) for bits in (10, 12, 14)},
    "premultiplied grey": (strip(ALPHA, t338=1), GREY),
    "grey with alpha": (strip(ALPHA, t338=2), GREY * (ALPHA[..., 1] / 255.0)),
    "colour with something": (strip(np.dstack([COLOUR, GREY]), t338=0), COLOUR),
    "colour with alpha": (strip(np.dstack([COLOUR, GREY]), t338=2), COLOUR * (GREY[..., None] / 255.0)),
    "16-bit colour with alpha": (strip(np.dstack([DEEP, DEEP[..., 0]]), t338=2), HIGH * (DEEP[..., :1] / 65535)),
    "palette": (strip(GREY, t262=3, t320=SHADES), np.reshape(SHADES, (3, 256)).T[GREY] // 256),
    "CMYK": (strip(INK, t262=5), (255 - INK[..., :3].astype(float)) * (255 - INK[..., 3:]) / 255),
    "filled up": (in_runs(GREY), GREY),
    "turned": (strip(COLOUR, t274=6), np.rot90(COLOUR, -1)),
}


def drop(content: bytes, tag: int) -> bytes:
    """The file with a tag's number changed to one that means nothing."""
    start = struct.unpack("<I", content[4:8])[0]
    place = next(at for at in range(start + 2, len(content), 12) if content[at : at + 2] == struct.pack("<H", tag))
    return content[:place] + struct.pack("<H", 65111) + content[place + 2 :]


SHOWN |= {
    "grey of no colour": (drop(strip(GREY), 262), GREY),
    "16-bit grey of no colour": (drop(strip(DEEP[..., 0]), 262), HIGH[..., 0]),
    "colour of no colour": (drop(strip(COLOUR), 262), COLOUR),
    "no byte count": (drop(strip(COLOUR), 279), COLOUR),
    "an unknown exif": (drop(strip(COLOUR), 274), COLOUR),
}


@pytest.mark.parametrize("name", SHOWN)
def test_shown(name: str) -> None:
    content, expected = SHOWN[name]
    assert_shows(open_picture(content), expected)
    for length in (len(content) // 2, len(content) - 30):
        with pytest.raises(UnreadableImage, match=r"truncated|damaged"):
            open_picture(content[:length])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("u4", 1), ("i4", 2), ("f2", 3), ("f4", 3), ("f8", 3), ("i2", 2), ("u2", 1), ("i1", 2)]
)
def test_values(dtype: str, kind: int, order: str) -> None:
    values = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 127).astype(dtype)
    picture = open_picture(strip(values, order, t339=kind), window=(0, 126))
    assert picture.stored is not None
    assert (picture.stored.values == values).all()
    assert_shows(picture, apply_linear(values, 0, 126))


def test_24_bits() -> None:
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH) * 30_000
    for order, kept in (("<", slice(0, 3)), (">", slice(1, 4))):
        data = values.astype(f"{order}u4")[..., None].view(np.uint8)[..., kept].tobytes()
        content = build_tiff([data], describe(values, t258=24), order=order)
        assert_shows(open_picture(content, window=(0, 2e7)), apply_linear(values, 0, 2e7))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_subsampled_colour(subsampling: tuple[int, int]) -> None:
    across, down = subsampling
    size = (down * (HEIGHT // 4), across * (WIDTH // 4))
    chroma = np.random.default_rng(2).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 2)).astype(np.uint8)
    luma = np.random.default_rng(3).integers(0, 256, size).astype(np.uint8)
    units = luma.reshape(HEIGHT // 4, down, WIDTH // 4, across).swapaxes(1, 2).reshape(HEIGHT // 4, WIDTH // 4, -1)
    tags = describe(np.dstack([luma] * 3), t262=6, t530=[across, down])
    picture = open_picture(build_tiff([np.concatenate([units, chroma], axis=2).tobytes()], tags))
    spread = np.dstack([luma, chroma.repeat(down, 0).repeat(across, 1)])
    assert_shows(picture, np.asarray(Image.fromarray(spread, "YCbCr").convert("RGB")))


COMPRESSIONS = {
    "1": ("tiff_lzw", "packbits", "group3", "group4", "tiff_ccitt"),
    "L": ("tiff_lzw", "packbits", "lzma", "zstd", "jpeg"),
    "RGB": ("tiff_lzw", "packbits", "lzma", "zstd", "jpeg"),
    "CMYK": ("tiff_lzw", "packbits", "lzma", "zstd", "jpeg"),
}


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode in COMPRESSIONS for name in COMPRESSIONS[mode]])
def test_compressions(mode: str, name: str) -> None:
    """As libtiff writes them, and as it reads them where they lose something."""
    content = encode(Image.fromarray(draw_blobs(200, 90)).convert(mode), "TIFF", compression=name)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("L" if mode in "1L" else "RGB"))
    shown = np.asarray(open_picture(content).image).astype(int)
    assert np.abs(shown - expected).max() <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("rows", [1, 7, 16])
def test_strips_of_a_few_rows(rows: int, compression: str) -> None:
    image = Image.fromarray(draw_blobs(50, 60))
    content = encode(image, "TIFF", compression=compression, tiffinfo={278: rows * (8 if compression == "jpeg" else 1)})
    assert_shows(open_picture(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    with pytest.raises(UnreadableImage, match=r"truncated|damaged"):
        open_picture(content[:8] + content[108:])


def test_a_changed_byte_of_deflate_is_noticed() -> None:
    """libtiff does not compare the check sum where damage makes a strip longer."""
    content = encode(Image.fromarray(draw_blobs(50, 60)), "TIFF", compression="tiff_adobe_deflate")
    with Image.open(io.BytesIO(content)) as image:
        start, size = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    for at in range(start, start + size - 5, 7):
        with pytest.raises(UnreadableImage, match="damaged TIFF: a strip or tile"):
            open_picture(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])


@pytest.mark.parametrize("order", ["<", ">"])
def test_lzw_of_any_layout(order: str) -> None:
    deep = DEEP.astype(f"{order}u2")
    differences = np.diff(DEEP, axis=1, prepend=np.zeros_like(DEEP[:, :1])).astype(f"{order}u2")
    parts = [in_codes(part.tobytes()) for part in (deep[:10], deep[10:20], deep[20:])]
    flat = [in_codes(part.tobytes()) for channel in np.moveaxis(deep, 2, 0) for part in (channel[:16], channel[16:])]
    tags = {"t259": 5, "t278": 10}
    contents = [
        build_tiff(parts, describe(DEEP, **tags), order=order),
        build_tiff([reverse(part) for part in parts], describe(DEEP, t266=2, **tags), order=order),
        build_tiff([in_codes(differences.tobytes())], describe(DEEP, t259=5, t317=2), order=order),
        build_tiff(flat, describe(DEEP, t259=5, t284=2, t278=16), order=order),
    ]
    padded = np.pad(deep, ((0, 8), (0, 12), (0, 0)))
    tiled = [in_codes(padded[top : top + 16, left : left + 16].tobytes()) for top in (0, 16) for left in (0, 16)]
    contents.append(build_tiff(tiled, describe(DEEP, t259=5, t322=16, t323=16), order=order, big=True))
    for content in contents:
        assert_shows(open_picture(content), HIGH)


REFUSED = {
    "a small copy first": (strip(GREY, t254=1), "a small copy"),
    "old-style JPEG": (strip(COLOUR, t259=6), r"compression 6 \(old-style JPEG\); weldnet reads none, LZW, .* PNG"),
    "a private compression": (strip(COLOUR, t259=50013), r"compression 50013 \(private or unknown\); weldnet reads"),
    "JPEG 2000": (strip(COLOUR, t259=34712), r"compression 34712 \(JPEG 2000\)"),
    "CIELab": (strip(COLOUR, t262=8), r"type 8 \(CIELab\); save it as grey or RGB"),
    "complex": (strip(DEEP[..., 0], t339=6), "complex numbers .* weldnet reads .* save it as TIFF with LZW"),
    "64 bits": (strip(DEEP[..., 0].astype(np.uint64)), "64-bit whole numbers; weldnet reads"),
    "many channels": (strip(np.dstack([COLOUR, COLOUR]), t262=1), "6 channels, which are not grey or RGB; save it"),
    "uneven channels": (strip(COLOUR, t258=[5, 6, 5]), "channels differ"),
    "a huge tile": (build_tiff([b"abc"], describe(COLOUR, t322=2**20, t323=2**20)), "tiles of 1048576 x 1048576"),
    "tiles far beyond the picture": (
        build_tiff([b"abc"], describe(GREY, t256=2**26, t257=1, t322=2**10, t323=2**10)),
        "over 1,073,741,824 bytes of pixels",
    ),
    "strips that part their chroma": (
        build_tiff([bytes(40)] * 24, describe(COLOUR, t262=6, t530=[2, 2], t278=1)),
        "strips of 1 rows, which split its chroma; save it as TIFF",
    ),
    "many strips": (build_tiff([b""] * 2, describe(COLOUR, t257=2**20, t278=1)), "2 strips or tiles where 1048576"),
    "no byte counts": (drop(build_tiff([bytes(9)] * 2, describe(GREY, t259=5, t278=12)), 279), "no byte counts"),
    "no strips": (drop(strip(COLOUR), 273), "no tag 273"),
    "short strips": (build_tiff([bytes(10)] * HEIGHT, describe(GREY, t278=1)), "this TIFF cannot be decoded"),
    "inflated strip": (build_tiff([zlib.compress(bytes(9))], describe(COLOUR, t259=8)), "has 9 of 1,440 bytes"),
    "broken deflate": (build_tiff([b"abcdefgh"], describe(COLOUR, t259=8)), "damaged TIFF: a strip or tile: "),
    "an unknown predictor": (
        build_tiff([zlib.compress(COLOUR.tobytes())], describe(COLOUR, t259=8, t317=4)),
        "this TIFF cannot be decoded",
    ),
    "broken LZW": (build_tiff([b"\x7f" * 99], describe(COLOUR, t259=5)), "this TIFF cannot be decoded"),
    "damaged JPEG": (
        build_tiff([zero(encode(Image.fromarray(COLOUR), "JPEG"), length=70)], describe(COLOUR, t259=7, t262=6)),
        "damaged TIFF: a strip or tile: the JPEG inside it is damaged",
    ),
    "broken JPEG": (build_tiff([b"\xff\xd8" * 99], describe(COLOUR, t259=7)), "the JPEG inside it is not"),
    "large floats": (strip(DEEP[..., 0].astype(np.float32), t339=3), "data.window=percentile"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    content, words = REFUSED[name]
    with pytest.raises(UnreadableImage, match=words) as caught:
        open_picture(content)
    assert len(str(caught.value)) < 250


def test_swollen_strips_take_no_memory() -> None:
    """A terabyte that a small file unpacks to is cut at what the picture holds."""
    swollen = zlib.compress(bytes(50 * 2**20), 9)
    assert_shows(open_picture(build_tiff([swollen], describe(GREY, t259=8))), np.zeros((HEIGHT, WIDTH)))
    shared = build_tiff([bytes(2**20)] * 2, describe(np.zeros((2, 2**20), np.uint8), t278=1))
    repeated = shared.replace(struct.pack("<II", 2**20, 2**20), struct.pack("<II", 2**30, 2**30))
    with pytest.raises(UnreadableImage, match="over 1,073,741,824 bytes of strips"):
        open_picture(repeated)


def test_nothing_is_written_beside_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    contents = [content for content, _ in (*REFUSED.values(), *SHOWN.values())]
    for mode, compression in (("RGB", "tiff_lzw"), ("RGB", "tiff_adobe_deflate"), ("1", "group4"), ("L", "jpeg")):
        whole = encode(Image.fromarray(draw_noise(200, 90)).convert(mode), "TIFF", compression=compression)
        contents += [whole[:100] + b"\x55" * length + whole[100 + length :] for length in (1, 10, 100, 1000)]
    contents += [make_dicom(GREY)[:length] for length in range(132, 1200, 40)]
    contents += [make_dicom(GREY, Rows=25), make_dicom(GREY, BitsAllocated=12), make_dicom(GREY, PixelData=b"ab")]
    for content in contents:
        for length in (len(content), len(content) * 2 // 3):
            with contextlib.suppress(UnreadableImage):
                open_picture(content[:length])
    assert capfd.readouterr() == ("", "")
