"""Configs that are read again and again are parsed once: a third of the time of composing one is PyYAML's."""

import io
import pickle
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def parse_once() -> None:
    """Let `OmegaConf.load` give a copy of what a text was parsed to before."""
    load = OmegaConf.load
    parsed: dict[str, bytes] = {}

    def load_once(file: Any) -> Any:
        is_open = hasattr(file, "read")
        text = file.read() if is_open else Path(file).read_text(encoding="utf-8")
        if text not in parsed:
            try:
                parsed[text] = pickle.dumps(load(io.StringIO(text)))
            except Exception:  # whose message names the file
                if is_open:
                    file.seek(0)
                return load(file)
        return pickle.loads(parsed[text])

    OmegaConf.load = staticmethod(load_once)  # type: ignore[method-assign, assignment]
