"""Pictures as people and strangers send them: huge, of every mode, turned, wrongly named, or no pictures at all."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.errors import ImageError
from edgetl.runtime.inference import picture_memory
from edgetl.runtime.inference.preprocess import decode
from edgetl.runtime.system import available_memory

MIB = 2**20


def quarters(mode: str) -> Image.Image:
    """A picture whose four quarters differ, so that a turn shows; 60 x 40."""
    image = Image.new("RGB", (60, 40), (200, 30, 30))
    image.paste((30, 200, 30), (30, 0, 60, 20))
    image.paste((30, 30, 200), (0, 20, 30, 40))
    return image.convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_a_tiff_is_the_same_by_path_and_from_bytes_and_turned_once(
    tmp_path: Path, mode: str, orientation: int, compression: str
) -> None:
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
    upright = quarters(mode).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.tif"
    quarters(mode).save(path, compression=compression, exif=exif)
    expected = np.asarray(upright if turned is None else upright.transpose(Image.Transpose(turned)))
    by_path, from_bytes = np.asarray(decode(path)), np.asarray(decode(path.read_bytes()))
    assert (by_path == from_bytes).all()
    assert by_path.shape == expected.shape
    assert np.abs(by_path.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK"])
def test_a_picture_of_several_strips_has_no_seams(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 8, 3), np.uint8)).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.random.default_rng(1).integers(0, 256, (700, 8), np.uint8)))
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image.convert("RGBA"), mask=image.getchannel("A"))
        expected = white
    else:
        expected = image.convert("RGB")
    assert (np.asarray(decode(image)) == np.asarray(expected)).all()


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


BOMBS = {
    "grey PNG": lambda: saved(Image.new("L", (12000, 12000)), "PNG"),
    "16-bit PNG": lambda: saved(Image.fromarray(np.zeros((9000, 9000), np.uint16)), "PNG"),
    "transparent PNG": lambda: saved(Image.new("RGBA", (8000, 8000)), "PNG"),
    "float TIFF": lambda: saved(Image.new("F", (8000, 8000)), "TIFF", compression="tiff_lzw"),
    "CMYK TIFF": lambda: saved(Image.new("CMYK", (8000, 8000)), "TIFF", compression="tiff_lzw"),
    "animated GIF": lambda: saved(
        Image.new("P", (11000, 11000)), "GIF", save_all=True, append_images=[Image.new("P", (11000, 11000), 1)]
    ),
    "WebP": lambda: saved(Image.new("RGB", (9000, 9000)), "WEBP", method=0),
}

MEASURE = """
import resource, sys
from edgetl.errors import ImageError
from edgetl.runtime.inference import picture_memory
from edgetl.runtime.inference.preprocess import Preprocess
budget = int(sys.argv[2])
picture_memory.available_memory = lambda: budget
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Preprocess(224, 224).frame(sys.argv[1])
    print("read", end=" ")
except ImageError as error:
    assert "scale it down first" in str(error), error
    print("refused", end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measured(path: Path, budget_mib: int) -> tuple[str, int]:
    """Whether a fresh process reads the picture, and the MiB by which its peak memory grew."""
    command = [sys.executable, "-c", MEASURE, str(path), str(budget_mib * MIB)]
    outcome, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return outcome, int(grown)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_with_many_pixels_is_refused_before_it_takes_the_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(BOMBS[name]())
    outcome, grown = measured(path, budget_mib=200)
    assert outcome == "refused"
    assert grown < 60


@pytest.mark.parametrize("name", BOMBS)
def test_the_estimate_covers_what_decoding_really_takes(name: str, tmp_path: Path) -> None:
    content = BOMBS[name]()
    path = tmp_path / "picture"
    path.write_bytes(content)
    outcome, grown = measured(path, budget_mib=100_000)
    with Image.open(io.BytesIO(content)) as image:
        estimate = picture_memory.decoding_bytes(image, image.size) / MIB
    assert outcome == "read"
    assert grown <= estimate * 1.1 + 16


@pytest.mark.parametrize("progressive", [False, True])
def test_a_phone_photo_of_50_megapixels_is_read_within_a_raspberry_pi_zero(progressive: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (612, 816, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).resize((8160, 6144)).save(path, quality=92, exif=exif, progressive=progressive)
    outcome, grown = measured(path, budget_mib=280)
    assert outcome == "read"
    assert grown < (200 if progressive else 60)


def test_the_smallest_limit_of_machine_and_control_groups_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9999999 kB\nMemAvailable:    500000 kB\n")
    assert available_memory(tmp_path) == 500_000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/edgetl.service\n")
    group = tmp_path / "sys/fs/cgroup/system.slice/edgetl.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert available_memory(tmp_path) == 500_000 * 1024
    (group.parent / "memory.max").write_text(f"{300 * MIB}\n")
    (group.parent / "memory.current").write_text(f"{100 * MIB}\n")
    (group.parent / "memory.stat").write_text(f"anon 5\ninactive_file {50 * MIB}\n")
    assert available_memory(tmp_path) == 250 * MIB
    assert available_memory(tmp_path / "nothing") is None


def test_a_pipe_a_socket_and_a_device_named_as_pictures_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        (tmp_path / "folder.jpg").mkdir()
        for name in ("pipe.jpg", "socket.jpg", "zero.jpg", "folder.jpg"):
            with pytest.raises(ImageError, match=name):
                decode(tmp_path / name)
