"""Images in files, without labels, as a model is fed those of its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from optwrap.errors import ConfigError, first_line
from optwrap.vision.preprocessing import Preprocessing

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"})
MODES = {1: "L", 3: "RGB"}
_OF_8_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


class ImageFiles(Dataset[Tensor]):
    """The images in and below a folder, in the order of their paths; `names` are these.

    `numbers` are those of a `Preprocessing`: each image is made grey or coloured, put to `image_size`, and
    normalised.

    Raises:
        ConfigError: there is no folder, or no image in it.
    """

    def __init__(self, folder: Path, numbers: Mapping[str, Any]) -> None:
        if not folder.is_dir():
            raise ConfigError(f"data={folder}: there is no such folder. It takes one with images in files.")
        self.folder = folder
        self.paths = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()
        )
        if not self.paths:
            raise ConfigError(f"data={folder}: there is no image in it ({', '.join(sorted(ENDINGS))}).")
        self.names = [path.relative_to(folder).as_posix() for path in self.paths]
        if numbers["channels"] not in MODES:
            raise ConfigError(
                f"data={folder}: the model takes {numbers['channels']} channels, and files have 1 or 3."
            )
        self._mode = MODES[numbers["channels"]]
        self._prepare = Preprocessing(numbers["mean"], numbers["std"], numbers["image_size"], resize=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self._prepare(read_image(self.paths[row], self._mode))


def read_image(path: Path, mode: str) -> Tensor:
    """Return the image in a file, upright, as bytes CxHxW; `mode` is L (grey) or RGB.

    Raises:
        ConfigError: it cannot be read, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            own = image.mode
            upright = ImageOps.exif_transpose(image).convert(mode)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: this is no image that can be read ({first_line(error)}).") from error
    if own not in _OF_8_BITS:  # would be cut off at 255
        raise ConfigError(f"{path}: its pixels are of type {own}. Save it with 8 bits a channel.")
    return v2.functional.pil_to_tensor(upright)
