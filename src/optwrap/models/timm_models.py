"""timm's models by name, fitted to other channels, classes and image sizes."""

from pathlib import Path
from typing import Any

from torch import nn

from optwrap.errors import ConfigError, did_you_mean, first_line
from optwrap.import_paths import import_extra
from optwrap.vision.torchvision_models import check_image_size

DEFAULT = "DEFAULT"


def timm_model(
    name: str,
    num_classes: int,
    channels: int = 3,
    image_size: int | None = None,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Return timm's model `name`, as `vit_tiny_patch16_224`, for `num_classes`, under timm's parameter names.

    `weights` are pretrained ones, `DEFAULT` for those that timm downloads or a file of timm's names; a head for
    another number of classes is new. `options` are the model's own, such as drop_path_rate.

    Raises:
        ConfigError: timm is not installed or has no such model, option or weights, or the model takes no images of
            that size.
    """
    timm = import_extra("timm", f"model.name={name}")
    check_name(timm, name)
    arguments = {"num_classes": num_classes, "in_chans": channels, **_pretrained(timm, name, weights), **options}
    model = _build(timm, name, arguments, image_size)
    if arguments["num_classes"] != num_classes:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    if image_size is not None:
        check_image_size(model, name, channels, image_size, own_size(timm, name))
    return model


def check_name(timm: Any, name: str) -> None:
    """Look the name up, with or without a tag of weights (`resnet18.a1_in1k`); no place elsewhere is one.

    Raises:
        ConfigError: timm has no such model, or none with this tag.
    """
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise ConfigError(
            f"model.name={name} is no model of timm.{did_you_mean(model, timm.list_models())} "
            "`python -c 'import timm; print(timm.list_models(\"*vit*\"))'` lists those with vit in their name."
        )
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{model}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"model.name={name}: timm has no weights {tag!r} of {model}.{did_you_mean(tag, tags)} "
            f"There are: {', '.join(tags) or 'none'}."
        )


def own_size(timm: Any, name: str) -> int:
    """Return the height in pixels of the images that the model was made for."""
    pretrained = timm.get_pretrained_cfg(name)
    return 224 if pretrained is None else pretrained.input_size[1]


def _pretrained(timm: Any, name: str, weights: str | None) -> dict[str, Any]:
    """Return the arguments that ask timm for the weights."""
    if weights is None:
        return {}
    if weights == DEFAULT:
        if not timm.list_pretrained(name if "." in name else f"{name}.*"):
            raise ConfigError(
                f"model.weights={weights}: timm has none for model.name={name}. Set model.weights=null."
            )
        return {"pretrained": True}
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"model.weights={weights} is no file. Give {DEFAULT}, a file of weights, or null for none."
        )
    # With the head of the file, whatever its number of classes: timm would drop a head that is not that of its own
    # weights, and then ask for no other parameter either.
    heads = getattr(timm.get_pretrained_cfg(name), "classifier", None) or ()
    state = _load(timm, file)
    rows = [
        len(state[f"{head}.weight"])
        for head in ((heads,) if isinstance(heads, str) else heads)
        if f"{head}.weight" in state
    ]
    classes = rows[0] if rows else 0
    overlay = {"file": str(file), "num_classes": classes}
    return {"num_classes": classes, "pretrained": True, "pretrained_cfg_overlay": overlay}


def _load(timm: Any, file: Path) -> dict[str, Any]:
    try:
        return timm.models.load_state_dict(str(file), weights_only=True)
    except Exception as error:  # a file may be anything
        raise ConfigError(
            f"model.weights={file}: no weights can be read from this file ({first_line(error)})."
        ) from error


def _build(timm: Any, name: str, arguments: dict[str, Any], image_size: int | None) -> nn.Module:
    # Models with a table of positions take the size, others have no argument for it.
    sized = {} if image_size is None else {"img_size": image_size}
    try:
        return timm.create_model(name, **arguments, **sized)
    except TypeError as error:
        if "img_size" in str(error) and sized:
            return _build(timm, name, arguments, None)
        raise ConfigError(f"model: {name} of timm: {first_line(error)}") from error
    except OSError as error:
        raise ConfigError(
            f"model.weights={DEFAULT}: the weights of {name} could not be downloaded ({first_line(error)}). Give "
            "a file of them, or null for none."
        ) from error
    except (ValueError, AssertionError, RuntimeError) as error:
        if arguments.get("pretrained_cfg_overlay"):
            file = arguments["pretrained_cfg_overlay"]["file"]
            raise ConfigError(
                f"model.weights={file}: these are no weights of {name} ({' '.join(str(error).split())[:200]})."
            ) from error
        raise ConfigError(
            f"data.image_size={image_size} does not fit model.name={name} ({first_line(error)}): set "
            f"data.image_size={own_size(timm, name)}, for which it was made."
        ) from error
