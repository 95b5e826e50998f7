"""Sound image files with random damage: a picture or one line with the reason, at once, and nothing else.

FAULTS_SEED=12345 pytest tests/faults/test_mutations.py      # the same damage again
"""

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from decoding import read_image
from odd_images import make_odd_images

from weldnet.errors import InputError

pytestmark = pytest.mark.slow

SOUND = [image for image in make_odd_images() if image.kind in ("sound", "rare")]
FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "dicom")
LIMIT_S = 2.0
LIMIT_MB = 800.0
"""A changed size in a header may be that of the largest picture, which takes as much when it is sound."""
WINDOWS: tuple[str | tuple[float, float], ...] = ("full", "percentile", (0.0, 200.0))


def flip(content: bytearray, at: int, chance: random.Random) -> None:
    content[at] ^= 1 << chance.randrange(8)


def overwrite(content: bytearray, at: int, chance: random.Random) -> None:
    content[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def zero(content: bytearray, at: int, chance: random.Random) -> None:
    end = min(len(content), at + chance.choice((4, 64, 512)))
    content[at:end] = bytes(end - at)


def cut(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at:]


def remove(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at : at + chance.choice((1, 4, 200))]


def insert(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = chance.randbytes(chance.choice((1, 4, 200)))


def repeat(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = content[at : at + chance.choice((2, 12, 400))]


DAMAGE: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    *(flip, flip, overwrite, overwrite),
    *(zero, cut, remove, insert, repeat),
)


def damage(content: bytes, chance: random.Random) -> bytes:
    """One to four faults, half of them among the first bytes, where the headers are."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if damaged:
            reach = min(len(damaged), chance.choice((400, len(damaged))))
            chance.choice(DAMAGE)(damaged, chance.randrange(reach), chance)
    return bytes(damaged)


def measure_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FORMATS)
def test_random_damage(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], thorough: bool) -> None:
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(10**6)))
    images = [image for image in SOUND if image.name.startswith(name)]
    file, outcomes, before = tmp_path / "damaged", Counter[str](), measure_peak_mb()
    for number in range(20_000 if thorough else 300):
        # Each case by its own seed, so that one can be repeated alone.
        chance = random.Random(f"{seed} {name} {number}")
        image = chance.choice(images)
        file.write_bytes(damage(image.content, chance))
        case = f"FAULTS_SEED={seed}, case {number}, of {image.name}"
        started = time.perf_counter()
        try:
            shown = read_image(file, height=40, width=24, window=chance.choice(WINDOWS))
            outcomes["read"] += 1
            assert shown.shape == (3, 40, 24), case
        except InputError as error:
            outcomes["refused"] += 1
            reason = str(error)
        except Exception as error:
            raise AssertionError(f"{case}: not a refusal but {error!r}") from error
        else:
            reason = "read"
        assert time.perf_counter() - started < LIMIT_S, case
        assert 0 < len(reason) < 500, f"{case}: {reason}"
        assert "\n" not in reason, f"{case}: {reason}"
        printed = capfd.readouterr()
        assert (printed.out, printed.err) == ("", ""), case
    assert measure_peak_mb() - before < LIMIT_MB
    assert outcomes["refused"], "damage that is never noticed is none"
