"""Decodes photos, and resizes them to the frame of a model; host and device share this code."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Tuple, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from typing import TypeGuard

from edgetl.errors import ImageError, OptionError, UnknownNameError
from edgetl.runtime.inference.picture_memory import decoding_bytes, require_memory

ImageSource = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Image.Image, np.ndarray]

PIXEL_LIMIT = 170_000_000
"""Larger images are refused as decompression bombs; just below Pillow's own limit."""

SIDE_LIMIT = 4096
"""The largest height or width of a frame, in pixels."""

WHITE_LIMIT = 65535
"""The largest `white_level`."""

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters; all but "nearest" are antialiased when shrinking."""

FITS = ("squash", "crop")
"""What happens to another aspect ratio: "squash" keeps all of the photo, "crop" its largest centred part."""


@dataclass(frozen=True)
class Preprocess:
    """The size of a model's frame, and how a photo is resized to it. Part of a bundle's manifest.

    >>> preprocess = Preprocess(height=2, width=2)
    >>> preprocess.frame(np.full((4, 8, 3), 200, dtype=np.uint8)).shape
    (2, 2, 3)
    >>> preprocess.to_dict()
    {'height': 2, 'width': 2, 'fit': 'squash', 'interpolation': 'bilinear'}

    Raises OptionError if a value is out of range.
    """

    height: int
    width: int
    fit: str = "squash"
    interpolation: str = "bilinear"
    white_level: Optional[int] = None
    """The value that is white in grey images of more than 8 bits, e.g. 1023 for 10 bits; None: each image decides."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= SIDE_LIMIT:
                raise OptionError(f"preprocess {name} must be 1 to {SIDE_LIMIT} pixels, received {side!r}")
        if self.fit not in FITS:
            raise UnknownNameError("fit", str(self.fit), FITS, "edgetl backbones")
        if not isinstance(self.interpolation, str) or self.interpolation not in INTERPOLATIONS:
            raise UnknownNameError("filter", str(self.interpolation), INTERPOLATIONS, "edgetl backbones")

        level = self.white_level
        if level is not None and (type(level) is not int or not 1 <= level <= WHITE_LIMIT):
            raise OptionError(f"preprocess white_level must be 1 to {WHITE_LIMIT}, received {level!r}")

    @property
    def size(self) -> Tuple[int, int]:
        """(height, width) of the frame."""
        return self.height, self.width

    def frame(self, source: ImageSource) -> np.ndarray:
        """Decodes and resizes an image to the model's frame, uint8 (height, width, 3) RGB.

        An array that already has the size of the frame is returned without a copy.
        Raises ImageError if the image cannot be decoded.
        """
        if self.is_frame(source):
            return source
        return self.apply(self.decode(source))

    def decode(self, source: ImageSource) -> Image.Image:
        """Decodes an image to upright RGB, not smaller than the frame, for `apply`. Raises ImageError."""
        return decode(source, size_hint=self.size, white_level=self.white_level)

    def is_frame(self, source: Any) -> TypeGuard[np.ndarray]:
        """Whether `source` is already a frame of the model, uint8 (height, width, 3)."""
        return (
            isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape == (self.height, self.width, 3)
        )

    def apply(self, image: Image.Image) -> np.ndarray:
        """Resizes an RGB image from `decode` to the model's frame, uint8 (height, width, 3), read-only."""
        size = (self.width, self.height)
        box = _largest_centred_box(image.size, size) if self.fit == "crop" else (0.0, 0.0, *image.size)
        if image.size != size:
            image = image.resize(size, INTERPOLATIONS[self.interpolation], box=box, reducing_gap=2.0)
        return np.asarray(image)

    def to_dict(self) -> Dict[str, Any]:
        """The fields as a JSON object, without `white_level` if it is None."""
        return {name: value for name, value in asdict(self).items() if name != "white_level" or value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> Preprocess:
        """The inverse of `to_dict`. Raises OptionError for unknown or missing keys, and for values out of range."""
        required = {field.name for field in fields(cls)} - {"white_level"}
        if not isinstance(values, dict) or set(values) - {"white_level"} != required:
            received = sorted(map(str, values)) if isinstance(values, dict) else values
            raise OptionError(f"preprocess must have exactly the keys {sorted(required)}, received {received!r}")
        return cls(**values)


def decode(
    source: ImageSource,
    size_hint: Optional[Tuple[int, int]] = None,
    name: Optional[str] = None,
    white_level: Optional[int] = None,
) -> Image.Image:
    """Decodes an image to upright RGB: applies the EXIF orientation, puts transparency on white, takes the first frame.

    With `size_hint` = (height, width), a JPEG that is much larger is decoded at a reduced scale (1/2, 1/4, 1/8) that
    still covers the hint. `white_level` is that of `Preprocess`. A Pillow image is not modified. Raises ImageError,
    which names the image by `name`, by default its path.
    """
    name = name or _describe(source)
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source)
        if isinstance(source, Image.Image):
            return _upright_rgb(source, name, white_level)
        with _open(source, name) as image:
            full_size = image.size
            _reduce_on_load(image, size_hint)
            require_memory(decoding_bytes(image, full_size), name)
            return _upright_rgb(image, name, white_level)
    except _DECODING_ERRORS as error:
        raise ImageError(f"cannot read {name}: {_reason(error)}") from error


_DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    AttributeError,
    OverflowError,
    MemoryError,
    BufferError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""Exceptions that Pillow's decoders were seen to raise for damaged or malicious files."""

_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = (5, 6, 7, 8)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _describe(source: ImageSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "the array"
    return "the image"


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {PIXEL_LIMIT // 10**6} megapixels; scale it down first"
    if isinstance(error, MemoryError):
        return "it needs more memory than is available; scale it down first"
    detail = " ".join(str(error).split())[:120]
    return f"the file is damaged ({detail or type(error).__name__}); replace it or leave it out"


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(
            f"an image array must be uint8 RGB (height, width, 3), received {array.dtype} {array.shape}; "
            "for grey use numpy.stack([grey] * 3, -1), for 0..1 floats (255 * x).astype('uint8')"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _open(source: Any, name: str) -> Image.Image:
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        raise ImageError(
            f"an image must be a path, bytes, a Pillow image or a uint8 array (height, width, 3), "
            f"received {type(source).__name__}"
        )
    data = source if isinstance(source, (bytes, bytearray, memoryview)) else _read_file(source, name)
    try:
        image: Image.Image = Image.open(BytesIO(data))
    except UnidentifiedImageError:
        image = _open_unidentified(data, name)
    if image.width * image.height > PIXEL_LIMIT:
        image.close()
        raise Image.DecompressionBombError
    return image


def _read_file(path: Union[str, os.PathLike[str]], name: str) -> bytes:
    """The bytes of a regular file; anything else could block or never end."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"cannot read {name}: it is {_kind(status.st_mode)}, not a file; leave it out")
        require_memory(status.st_size, name)
        return file.read(status.st_size)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return next((kind for matches, kind in kinds if matches(mode)), "a device")


def _open_unidentified(data: Union[bytes, bytearray, memoryview], name: str) -> Image.Image:
    head = bytes(data[:12])
    if not head:
        raise ImageError(f"cannot read {name}: it is empty; replace it or leave it out")
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        raise ImageError(f"cannot read {name}: not an image that Pillow knows; convert it to JPEG or PNG")
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f"cannot read {name}: HEIC needs one more package. Install it: pip install pillow-heif "
            "(or convert the photo to JPEG)"
        ) from None
    pillow_heif.register_heif_opener()
    return Image.open(BytesIO(data))


def _reduce_on_load(image: Image.Image, size_hint: Optional[Tuple[int, int]]) -> None:
    """Lets the JPEG decoder shrink; the hint's sides are swapped for a photo that will be rotated afterwards."""
    if size_hint is None or image.format not in ("JPEG", "MPO"):
        return
    height, width = size_hint
    is_rotated = _orientation(image) in _SIDES_SWAPPED
    image.draft("RGB", (height, width) if is_rotated else (width, height))


def _upright_rgb(image: Image.Image, name: str, white_level: Optional[int]) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"cannot read {name}: it is {image.width} x {image.height} pixels")
    image.load()  # first, because Pillow turns a TIFF upright then, and reading its tags earlier disturbs the decoder
    rgb = _rgb(image, white_level)
    transpose = _TRANSPOSES.get(_orientation(image))
    if transpose is not None:
        rgb = rgb.transpose(transpose)
        rgb.info.clear()  # or the next reader of the EXIF would rotate it again
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODING_ERRORS:
        return 1


def _rgb(image: Image.Image, white_level: Optional[int]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode[0] in "IF":
        return _grey_of_many_bits(image, white_level)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


_STRIP_ROWS = 256
"""Rows that are converted at a time, so that a large picture has no third copy in memory."""


def _strips(image: Image.Image) -> Iterator[Tuple[int, Image.Image]]:
    """The (top row, strip) pairs of an image, from top to bottom."""
    for top in range(0, image.height, _STRIP_ROWS):
        yield top, image.crop((0, top, image.width, min(image.height, top + _STRIP_ROWS)))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, (255, 255, 255))
    for top, strip in _strips(image):
        if strip.mode == "La":
            strip = strip.convert("LA")  # the only conversion that Pillow offers for premultiplied grey
        strip = strip.convert("RGBA")
        white.paste(strip, (0, top), mask=strip.getchannel("A"))
    return white


def _grey_of_many_bits(image: Image.Image, white_level: Optional[int]) -> Image.Image:
    """Converts grey values of more than 8 bits to RGB.

    Without a white level, integers are taken as 0..65535 and floats as 0..1, unless the values show that they are
    0..255: integers that do not exceed 255 (the photo would be black), floats that exceed 1.
    """
    largest = max(float(_numbers(strip).max()) for _, strip in _strips(image))
    scale = _grey_scale(image.mode[0] == "F", largest, white_level)
    rgb = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        grey = np.clip(np.rint(_numbers(strip) * scale), 0, 255).astype(np.uint8)
        rgb.paste(Image.fromarray(grey).convert("RGB"), (0, top))
    return rgb


def _grey_scale(is_float: bool, largest: float, white_level: Optional[int]) -> float:
    """The factor to 0..255."""
    if white_level is not None:
        return 255.0 / white_level
    if is_float:
        return 255.0 if largest <= 1 else 1.0
    return 255.0 / 65535.0 if largest > 255 else 1.0


def _numbers(image: Image.Image) -> np.ndarray:
    """The values of a grey image; those that are not finite as numbers."""
    values = np.asarray(image)
    return np.nan_to_num(values) if values.dtype.kind == "f" else values


def _largest_centred_box(available: Tuple[int, int], wanted: Tuple[int, int]) -> Tuple[float, float, float, float]:
    """(left, upper, right, lower) of the largest centred part with the aspect ratio of `wanted` = (width, height)."""
    scale = min(available[0] / wanted[0], available[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, upper = (available[0] - width) / 2, (available[1] - height) / 2
    return left, upper, left + width, upper + height
