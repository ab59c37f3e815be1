"""Any photo becomes a frame of the model; a file that is not a photo is refused in one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from edgetl.errors import ImageError, OptionError, UnknownNameError
from edgetl.runtime.inference import preprocess as room
from edgetl.runtime.inference.preprocess import Preprocess, decode

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    """Red, green over blue, white: every turn and flip shows."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The pixels a quarter in from the four corners, row by row."""
    x, y = image.width // 4, image.height // 4
    return [image.getpixel(at) for at in ((x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y))]  # type: ignore[misc]


def is_close(pixels: list[tuple[int, ...]], wanted: list[tuple[int, ...]], tolerance: int = 6) -> bool:
    return bool((np.abs(np.array(pixels, int) - np.array(wanted, int)) <= tolerance).all())


class TestDecoding:
    @pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "image", "array"])
    def test_every_kind_of_source_gives_the_same_picture(self, kind: str, tmp_path: Path) -> None:
        data = encoded(quarters(), "PNG")
        path = tmp_path / "photo.png"
        path.write_bytes(data)
        sources = {
            "path": path,
            "text": str(path),
            "bytes": data,
            "bytearray": bytearray(data),
            "image": quarters(),
            "array": np.asarray(quarters()),
        }
        image = decode(sources[kind])
        assert image.mode == "RGB"
        assert corners(image) == [RED, GREEN, BLUE, WHITE]

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size_hint", [None, (32, 64)])
    def test_a_turned_photo_comes_upright(self, orientation: int, size_hint: tuple[int, int] | None) -> None:
        upright = quarters(512, 256)
        backwards = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        stored = upright.transpose(backwards[orientation]) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = decode(encoded(stored, "JPEG", quality=95, exif=exif), size_hint)
        assert is_close(corners(image), [RED, GREEN, BLUE, WHITE])
        assert image.size == ((512, 256) if size_hint is None else (64, 32))
        assert corners(decode(image)) == corners(image)

    def test_a_png_is_turned_too(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3
        data = encoded(quarters().transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
        assert corners(decode(data)) == [RED, GREEN, BLUE, WHITE]

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_damaged_exif_is_ignored(self) -> None:
        assert decode(encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (64, 32)

    def test_a_large_jpeg_is_decoded_small_but_never_below_the_hint(self) -> None:
        data = encoded(quarters(1000, 700), "JPEG")
        assert decode(data, (80, 100)).size == (125, 88)
        assert decode(data, (400, 400)).size == (1000, 700)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGBA", "LA", "I;16", "I", "F"])
    def test_white_stays_white_in_every_mode(self, mode: str) -> None:
        if mode in ("I;16", "I", "F"):
            brightest = {"I;16": np.uint16(65535), "I": np.int32(65535), "F": np.float32(1.0)}[mode]
            image = Image.fromarray(np.full((8, 8), brightest))
        else:
            image = Image.new("RGB", (8, 8), WHITE).convert(mode)
        assert decode(image).getpixel((4, 4)) == WHITE

    def test_deep_grey_is_scaled_not_cut_off(self) -> None:
        grey = np.full((8, 8), 32768, np.uint16)
        assert decode(encoded(Image.fromarray(grey), "PNG")).getpixel((4, 4)) == (128, 128, 128)
        assert decode(encoded(Image.fromarray(grey), "TIFF")).getpixel((4, 4)) == (128, 128, 128)

    @pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "F", "La"])
    def test_a_grey_photo_looks_the_same_in_every_mode_that_pillow_brings_it_to(self, mode: str) -> None:
        photo = Image.new("LA" if mode == "La" else "L", (8, 8), (200, 255) if mode == "La" else 200)
        assert decode(photo.convert(mode)).getpixel((4, 4)) == (200, 200, 200)

    def test_transparency_becomes_white(self) -> None:
        half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
        assert is_close([decode(encoded(half, "PNG")).getpixel((4, 4))], [(255, 127, 127)], 1)  # type: ignore[list-item]
        assert decode(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG")).getpixel((4, 4)) == WHITE

    def test_a_transparent_palette_colour_becomes_white(self) -> None:
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([0, 0, 0, 255, 0, 0])
        assert decode(encoded(palette, "PNG", transparency=1)).getpixel((4, 4)) == WHITE
        assert decode(encoded(palette, "PNG")).getpixel((4, 4)) == RED

    def test_a_transparent_colour_of_an_rgb_png_becomes_white(self) -> None:
        data = encoded(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED)
        assert decode(data).getpixel((4, 4)) == WHITE

    @pytest.mark.parametrize("format", ["GIF", "WEBP", "MPO", "TIFF"])
    def test_the_first_of_several_frames_is_taken(self, format: str) -> None:
        frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, BLUE)]
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert is_close([decode(data, (8, 8)).getpixel((4, 4))], [RED], 8)  # type: ignore[list-item]

    def test_the_image_of_the_caller_is_left_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        path.write_bytes(encoded(quarters(640, 320), "JPEG"))
        with Image.open(path) as image:
            decode(image, (32, 32))
            assert image.size == (640, 320)


class TestRefusals:
    def refused(self, source: object) -> str:
        with pytest.raises(ImageError) as caught:
            decode(source)  # type: ignore[arg-type]
        line = str(caught.value)
        assert "\n" not in line
        return line

    def test_a_missing_file_is_named(self) -> None:
        assert "nowhere/a.jpg: there is no such file" in self.refused("nowhere/a.jpg")

    def test_a_folder_is_not_an_image(self, tmp_path: Path) -> None:
        assert "directory" in self.refused(tmp_path)

    def test_an_empty_file_is_named_as_such(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.write_bytes(b"")
        assert "empty.jpg: it is empty" in self.refused(path)

    def test_text_is_not_an_image(self) -> None:
        assert "convert it to JPEG or PNG" in self.refused(b"hello" * 100)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
    def test_a_truncated_file_is_refused(self, format: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(noise), format)
        self.refused(data[: len(data) // 2])
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False

    def test_a_decompression_bomb_is_refused_before_it_is_unpacked(self) -> None:
        header = b"\x89PNG\r\n\x1a\n"
        size = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
        stream = BytesIO(header)
        stream.seek(0, 2)
        PngImagePlugin.putchunk(stream, b"IHDR", size)
        PngImagePlugin.putchunk(stream, b"IDAT", bytes(10))
        assert "megapixels" in self.refused(stream.getvalue())

    def test_the_limit_of_pixels_is_our_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "PIXEL_LIMIT", 1000)
        assert "megapixels" in self.refused(encoded(quarters(), "PNG"))

    def test_heic_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
        assert "pip install pillow-heif" in self.refused(b"\0\0\0\x18ftypheic" + bytes(100))

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((8, 8), np.uint8),
            np.zeros((8, 8, 4), np.uint8),
            np.zeros((8, 8, 3), np.float32),
            np.zeros((0, 8, 3), np.uint8),
            np.zeros((1, 8, 8, 3), np.uint8),
        ],
        ids=lambda array: f"{array.dtype}{array.shape}",
    )
    def test_an_array_of_another_kind_says_what_is_right(self, array: np.ndarray) -> None:
        assert "must be uint8 RGB (height, width, 3)" in self.refused(array)

    @pytest.mark.parametrize("source", [None, 3, ["a.jpg"]])
    def test_an_invalid_source_says_what_is_valid(self, source: object) -> None:
        assert "a path, bytes, a Pillow image" in self.refused(source)

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "ICO"])
    def test_random_changes_give_an_image_or_an_image_error(self, format: str) -> None:
        rng = random.Random(0)
        whole = encoded(quarters(48, 48), format)
        for _ in range(200):
            changed = bytearray(whole)
            for _ in range(rng.choice([1, 3, 10])):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            try:
                image = decode(bytes(changed), (16, 16))
            except ImageError:
                continue
            assert image.mode == "RGB"


class TestFrames:
    def test_a_frame_is_uint8_of_the_models_size(self) -> None:
        frame = Preprocess(20, 30).frame(encoded(quarters(), "PNG"))
        assert frame.shape == (20, 30, 3)
        assert frame.dtype == np.uint8

    def test_an_array_of_the_models_size_is_not_copied(self) -> None:
        array = np.zeros((20, 30, 3), np.uint8)
        assert Preprocess(20, 30).frame(array) is array

    def test_squash_keeps_all_of_the_photo(self) -> None:
        frame = Preprocess(32, 32, fit="squash").frame(quarters())
        assert corners(Image.fromarray(frame)) == [RED, GREEN, BLUE, WHITE]

    def test_crop_keeps_the_middle_undistorted(self) -> None:
        photo = Image.new("RGB", (96, 32), RED)
        photo.paste(BLUE, (32, 0, 64, 32))
        assert (Preprocess(32, 32, fit="crop").frame(photo) == BLUE).all()

    def test_shrinking_is_antialiased(self) -> None:
        stripes = np.zeros((256, 256, 3), np.uint8)
        stripes[:, ::2] = 255
        assert np.ptp(Preprocess(32, 32).frame(stripes)[4:-4, 4:-4].astype(int)) <= 2

    def test_the_reduced_scale_hardly_changes_the_frame(self, shared: Callable[[str], Path]) -> None:
        path = next(iter(sorted(shared("data/trashnet/test").rglob("*.jpg"))))
        wanted = Preprocess(64, 64)
        reduced, full = wanted.frame(path).astype(int), wanted.apply(decode(path)).astype(int)
        assert np.abs(reduced - full).mean() < 3

    def test_it_survives_a_dictionary(self) -> None:
        wanted = Preprocess(240, 200, fit="crop", interpolation="bicubic")
        assert Preprocess.from_dict(wanted.to_dict()) == wanted

    @pytest.mark.parametrize(
        "changes",
        [{"height": 0}, {"width": 10**6}, {"height": "224"}, {"height": True}, {"interpolation": []}, {"mean": 127}],
    )
    def test_invalid_values_are_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(OptionError):
            Preprocess.from_dict({**Preprocess(224, 224).to_dict(), **changes})

    def test_unknown_names_get_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'squash'"):
            Preprocess(224, 224, fit="squeeze-squash")
        with pytest.raises(UnknownNameError, match="did you mean 'bilinear'"):
            Preprocess(224, 224, interpolation="linear")

    @pytest.mark.parametrize("values", [None, [], {"height": 224, "width": 224}])
    def test_incomplete_dictionaries_are_refused(self, values: object) -> None:
        with pytest.raises(OptionError, match="exactly the keys"):
            Preprocess.from_dict(values)
