"""What images a model was pretrained on, for configs: `${optwrap.pretrained_input:NAME,FIELD}`."""

from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from optwrap.errors import ConfigError, did_you_mean, first_line
from optwrap.hydra_versions import register_resolver
from optwrap.import_paths import import_extra


def register() -> None:
    """Offer it to configs."""
    register_resolver("optwrap.pretrained_input", pretrained_input)


def pretrained_input(name: str, field: str) -> int | ListConfig:
    """Return what the images were that the weights of `name` were trained on.

    `name` is a model of timm, or a checkpoint of transformers: a folder, or `owner/name` on the hub. `field` is
    image_size (pixels), channels, mean or std (of each channel, on the scale 0 to 1).

    Raises:
        ConfigError: the package is not installed, or knows nothing of that name.
    """
    is_checkpoint = "/" in name or Path(name).is_dir()
    value = (_of_checkpoint(name) if is_checkpoint else _of_timm(name))[field]
    return ListConfig(value) if isinstance(value, list) else value


def _of_timm(name: str) -> dict[str, Any]:
    timm = import_extra("timm", f"model.name={name}")
    found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if found is None:
        raise ConfigError(
            f"model.name={name}: timm has no pretrained model of this name."
            f"{did_you_mean(name.partition('.')[0], timm.list_models())}"
        )
    channels, height, _ = found.input_size
    return {"image_size": height, "channels": channels, "mean": list(found.mean), "std": list(found.std)}


def _of_checkpoint(name: str) -> dict[str, Any]:
    transformers = import_extra("transformers", f"model.weights={name}")
    try:
        base = transformers.image_processing_base.ImageProcessingMixin
        prepares, _ = base.get_image_processor_dict(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.weights={name}: it does not say what images it was trained on ({first_line(error)}). Give "
            "data.image_size, data.channels, data.mean and data.std with model=transformers."
        ) from error
    size = prepares.get("crop_size") or prepares["size"]
    height = size if isinstance(size, int) else size.get("height") or size["shortest_edge"]
    mean, std = list(prepares["image_mean"]), list(prepares["image_std"])
    return {"image_size": height, "channels": len(mean), "mean": mean, "std": std}
