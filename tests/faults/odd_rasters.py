"""PNG, WebP and BMP files: odd, with harmless faults, and damaged."""

import struct
import zlib
from typing import Any

import numpy as np
from drawing import draw_noise
from encoding import encode, make_chunk, make_png
from odd_image import COLOUR, DEEP, GREY, OddImage, scale
from PIL import Image

_WRONG_EXIF = b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\xff\xff\xff\xff\0\x06"


def make_rasters() -> list[OddImage]:
    return [*_pngs(), *_damaged_pngs(), *_webps(), *_bmps()]


def make_whole_png(*extra: bytes, pieces: int = 4, spoil: int = -1) -> bytes:
    """8-bit colour with its data in several chunks; in chunk `spoil` a byte is changed, and its CRC is not."""
    height, width, _ = COLOUR.shape
    header = make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    # Stored, so that a changed byte is a changed pixel and no decompressor notices before the end.
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in COLOUR), 0)
    size = -(-len(data) // pieces)
    chunks = [bytearray(make_chunk(b"IDAT", data[at : at + size])) for at in range(0, len(data), size)]
    if spoil >= 0:
        chunks[spoil][len(chunks[spoil]) // 2] ^= 0x55
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + b"".join(chunks) + make_chunk(b"IEND", b"")


def _break(chunk: bytes) -> bytes:
    """A chunk with a wrong CRC."""
    return chunk[:-1] + bytes([chunk[-1] ^ 0xFF])


def _pngs() -> list[OddImage]:
    alpha = np.linspace(0, 255, GREY.shape[1]).round().astype(np.uint8) * np.ones((GREY.shape[0], 1), np.uint8)
    wide, over_black = np.dstack([DEEP] * 3), (COLOUR * (alpha[..., None] / 255))
    rgba = encode(Image.fromarray(np.dstack([COLOUR, alpha])), "PNG")
    bilevel = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    palette = Image.fromarray(COLOUR).quantize(16)
    return [
        OddImage("png_plain", make_whole_png(), "sound", COLOUR),
        OddImage("png_16_bit_grey", make_png(DEEP), "sound", scale(DEEP, 0, 2**16 - 1)),
        OddImage("png_16_bit_colour", make_png(wide), "sound", wide >> 8),
        OddImage("png_transparent", rgba, "sound", over_black),
        OddImage("png_bilevel", encode(bilevel, "PNG"), "sound", (GREY > 127) * 255),
        OddImage("png_palette", encode(palette, "PNG"), "sound", np.asarray(palette.convert("RGB"))),
        OddImage("png_wrong_exif", make_whole_png(make_chunk(b"eXIf", _WRONG_EXIF)), "sound", COLOUR),
        OddImage("png_senseless_exif", make_whole_png(make_chunk(b"eXIf", b"no exif")), "sound", COLOUR),
        OddImage("png_own_chunk", make_whole_png(make_chunk(b"weLd", bytes(99))), "sound", COLOUR),
        # Metadata may be damaged without a pixel's being so.
        OddImage("png_broken_text", make_whole_png(_break(make_chunk(b"tEXt", b"a\0b"))), "rare", COLOUR),
        OddImage("png_broken_time", make_whole_png(_break(make_chunk(b"tIME", bytes(7)))), "rare", COLOUR),
    ]


def _damaged_pngs() -> list[OddImage]:
    whole = make_whole_png()
    return [
        OddImage("png_first_chunk_spoilt", make_whole_png(spoil=0), "damaged"),
        OddImage("png_last_chunk_spoilt", make_whole_png(spoil=3), "damaged"),
        OddImage("png_half", whole[: len(whole) // 2], "damaged"),
        # All its pixels are there.
        OddImage("png_without_end", whole[:-12], "damaged"),
    ]


def _webps() -> list[OddImage]:
    lossless = encode(Image.fromarray(COLOUR), "WEBP", lossless=True)
    noise = Image.fromarray(draw_noise(96, 64))
    lossy, solid = encode(noise, "WEBP", quality=95), encode(noise, "WEBP", lossless=True)
    # Behind a VP8X header a block of EXIF may follow the picture.
    frame = lossless[12:]
    height, width, _ = COLOUR.shape
    extended = (
        b"VP8X" + struct.pack("<II", 10, 8) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    exif = b"EXIF" + struct.pack("<I", len(_WRONG_EXIF)) + _WRONG_EXIF
    body = b"WEBP" + extended + frame + bytes(len(frame) % 2) + exif
    files: dict[str, Any] = {"plain": lossless, "wrong_exif": b"RIFF" + struct.pack("<I", len(body)) + body}
    found = [OddImage(f"webp_{name}", file, "sound", COLOUR) for name, file in files.items()]
    for name, file in (("lossy", lossy), ("lossless", solid)):
        half = len(file) // 2
        found.append(OddImage(f"webp_{name}_half_zero", file[:half] + bytes(len(file) - half), "damaged"))
        found.append(OddImage(f"webp_{name}_zeros", file[:half] + bytes(256) + file[half + 256 :], "damaged"))
        found.append(OddImage(f"webp_{name}_cut", file[:half], "damaged"))
    return found


def _bmps() -> list[OddImage]:
    plain = encode(Image.fromarray(COLOUR), "BMP")
    height = COLOUR.shape[0]
    rows = np.frombuffer(plain[54:], np.uint8).reshape(height, -1)[::-1].tobytes()
    top_down = plain[:22] + struct.pack("<i", -height) + plain[26:54] + rows
    return [
        OddImage("bmp_plain", plain, "sound", COLOUR),
        OddImage("bmp_grey", encode(Image.fromarray(GREY), "BMP"), "sound", GREY),
        OddImage("bmp_top_down", top_down, "sound", COLOUR),
        OddImage("bmp_half", plain[: len(plain) // 2], "damaged"),
    ]
