"""Models of Hugging Face's transformers, from an architecture's name or from a checkpoint; they return logits."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from optwrap.errors import ConfigError, did_you_mean, first_line
from optwrap.import_paths import import_extra

_IMAGES = "image-classification"
_TASKS = {
    _IMAGES: "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
}


def transformers_model(
    name: str | None = None,
    task: str = _IMAGES,
    num_classes: int | None = None,
    channels: int | None = None,
    image_size: int | None = None,
    weights: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a model of transformers, under its own parameter names, that returns logits alone.

    `name` is an architecture (vit, bert, llama, ...) with fresh weights; or `weights` is a checkpoint, a folder or
    a name on the hub, whose code is never run. `config` are fields of its config; num_classes, channels and
    image_size set those that it has. A checkpoint's head of another shape is new. The attention mask leaves out
    the `pad_token_id` of text.

    Raises:
        ConfigError: transformers is not installed, or it has no such architecture, checkpoint, task or field.
    """
    if (name is None) == (weights is None):
        raise ConfigError(
            f"model.name={name}, model.weights={weights}: give the one or the other, an architecture such as "
            "model.name=vit, or a checkpoint such as model.weights=google/vit-base-patch16-224."
        )
    if task not in _TASKS:
        raise ConfigError(f"model.task={task}: it is one of {', '.join(_TASKS)}.{did_you_mean(task, _TASKS)}")
    package = import_extra("transformers", "model")
    sizes = {"num_channels": channels, "image_size": image_size} if task == _IMAGES else {}
    classes = {} if task == "causal-lm" else {"num_labels": num_classes}
    own = _config(package, name, weights, {**sizes, **classes}, config or {})
    model = _model(getattr(package, _TASKS[task]), weights, own, f"model.task={task}")
    model.register_forward_hook(_logits)
    if task != _IMAGES and own.pad_token_id is not None:
        model.register_forward_pre_hook(_with_mask, with_kwargs=True)
    return model.train()


def _config(
    package: Any, name: str | None, weights: str | None, sizes: Mapping[str, Any], fields: Mapping[str, Any]
) -> Any:
    """Return the config of the architecture, or of the checkpoint, with these values."""
    if weights is None:
        known = list(package.models.auto.configuration_auto.CONFIG_MAPPING.keys())
        if name not in known:
            raise ConfigError(
                f"model.name={name} is no architecture of transformers.{did_you_mean(str(name), known)} "
                f"A checkpoint is model.weights={name}."
            )
        read = package.AutoConfig.for_model
    else:
        name, read = weights, package.AutoConfig.from_pretrained
    try:
        plain = read(name)
        for field in fields:
            if not hasattr(plain, field):
                raise ConfigError(
                    f"model.config.{field}: the config of {name} has no such field."
                    f"{did_you_mean(field, list(plain.to_dict()))}"
                )
        given = {field: value for field, value in sizes.items() if value is not None and hasattr(plain, field)}
        return read(name, **{**given, **fields})
    except OSError as error:
        raise ConfigError(
            f"model.weights={weights}: no checkpoint can be read there ({first_line(error)}). Give its folder, or "
            "a name on the hub."
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # their own checks of types and values
        raise ConfigError(
            f"model.config: {name} takes no such config ({' '.join(str(error).split())})."
        ) from error


def _model(kind: Any, weights: str | None, config: Any, key: str) -> nn.Module:
    try:
        if weights is None:
            return kind.from_config(config, trust_remote_code=False)
        model, report = kind.from_pretrained(
            weights, config=config, trust_remote_code=False, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except OSError as error:
        raise ConfigError(
            f"model.weights={weights}: no weights can be read there ({first_line(error)})."
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error
    base = f"{model.base_model_prefix}."
    missing = [name for name in report["missing_keys"] if name.startswith(base)]
    missing += [name for name, *_ in report["mismatched_keys"] if name.startswith(base)]
    if missing:
        raise ConfigError(
            f"model.weights={weights}: it lacks {len(missing)} of the model's parameters, or has them in other "
            f"shapes: {', '.join(sorted(missing)[:4])}. Give the sizes that it was trained with."
        )
    return model


def _logits(module: nn.Module, arguments: Any, output: Any) -> Any:
    return getattr(output, "logits", output)


def _with_mask(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Leave padding out of the attention, where the call does not say what it sees."""
    ids = arguments[0] if arguments else named.get("input_ids")
    if isinstance(ids, Tensor) and len(arguments) < 2 and named.get("attention_mask") is None:
        config: Any = module.config
        named = {**named, "attention_mask": ids.ne(config.pad_token_id).long()}
    return arguments, named
