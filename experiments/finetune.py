"""Text that every environment has: the descriptions of its packages."""

import sysconfig
from typing import Any

from optwrap.text import TextData, text_folder


def package_descriptions(pattern: str = "*.dist-info/METADATA", **options: Any) -> TextData:
    """Return the installed packages' metadata, mostly their READMEs, as `optwrap.text.text_folder` does."""
    return text_folder(sysconfig.get_paths()["purelib"], pattern, **options)
