"""The fields of `paramwise_cfg`, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from optwrap.errors import ConfigError, did_you_mean

KEY = "optim_wrapper.paramwise_cfg"
MULTIPLIERS = {"lr_mult": "lr", "decay_mult": "weight_decay"}  # on all parameters, or in a custom key


@dataclass(frozen=True)
class ParamwiseRules:
    """The fields of `paramwise_cfg`; None is 'off'. See `assign` for how they combine."""

    lr_mult: float | None = None
    decay_mult: float | None = None
    bias_lr_mult: float | None = None
    bias_decay_mult: float | None = None
    norm_decay_mult: float | None = None
    flat_decay_mult: float | None = None
    dwconv_decay_mult: float | None = None
    dcn_offset_lr_mult: float | None = None
    no_decay_1d: bool | None = None
    norm_classes: Sequence[str] | None = None
    bypass_duplicate: bool = False
    custom_keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strict: bool = True

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any] | None) -> "ParamwiseRules":
        """Check the fields of a config.

        Raises:
            ConfigError: a field is unknown or not a number, two contradict, or a custom key holds no options.
        """
        cfg = fields_of(cfg)
        known = [f.name for f in fields(cls)]
        for name, value in cfg.items():
            if name not in known:
                raise ConfigError(
                    f"{KEY}.{name}={value!r}: there is no such field.{did_you_mean(name, known)} "
                    f"Fields: {', '.join(known)}."
                )
            if name.endswith("_mult"):
                _check_factor(f"{KEY}.{name}", value)
            if name in ("bypass_duplicate", "strict") and not isinstance(value, bool):
                raise ConfigError(f"{KEY}.{name}={value!r}: it is true or false.")
            if name in ("no_decay_1d", "norm_classes"):
                _check_kinds(name, value, cfg)
        custom_keys = cfg.pop("custom_keys", None) or {}
        if not isinstance(custom_keys, Mapping):
            raise ConfigError(
                f"{KEY}.custom_keys={custom_keys!r}: it maps parts of names to options: {{head: {{lr_mult: 10}}}}."
            )
        for key, options in custom_keys.items():
            _check_custom_key(key, options)
        return cls(
            **cfg,
            custom_keys={str(key): dict(options) for key, options in custom_keys.items()},
        )

    @property
    def factors(self) -> dict[str, float]:
        """The factors that are set, by field name."""
        every = {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("_mult")}
        return {name: value for name, value in every.items() if value is not None}

    @property
    def decay_factors(self) -> dict[str, float]:
        """The factors on weight decay that are set, those of custom keys included, by their place."""
        own = {name: factor for name, factor in self.factors.items() if name.endswith("decay_mult")}
        for key, options in self.custom_keys.items():
            if options.get("decay_mult") is not None:
                own[f"custom_keys.{key}.decay_mult"] = options["decay_mult"]
        return own

    def __bool__(self) -> bool:
        return bool(self.factors or self.custom_keys or self.no_decay_1d)


def fields_of(cfg: Any) -> dict[str, Any]:
    """Return the fields of a `paramwise_cfg`, which may be None.

    Raises:
        ConfigError: it is no mapping.
    """
    if not isinstance(cfg or {}, Mapping):
        raise ConfigError(f"{KEY}={cfg!r}: it is a mapping of fields, such as {{norm_decay_mult: 0}}.")
    return dict(cfg or {})


def _check_kinds(name: str, value: Any, cfg: Mapping[str, Any]) -> None:
    if name == "norm_classes":
        if isinstance(value, str) or not all(isinstance(each, str) for each in value or ()):
            raise ConfigError(f"{KEY}.{name}={value!r}: it is a list of names of classes: [{value}].")
        return
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{KEY}.{name}={value!r}: it is true or false.")
    if value and cfg.get("flat_decay_mult") is not None:
        raise ConfigError(
            f"{KEY}.no_decay_1d=true and {KEY}.flat_decay_mult={cfg['flat_decay_mult']} both decide the "
            "weight decay of one-dimensional parameters: set one of them to null."
        )


def _check_factor(key: str, value: Any) -> None:
    if value is not None and not (is_number(value) and 0 <= value < float("inf")):
        raise ConfigError(f"{key}={value!r}: a factor is a number from 0 up. Null switches the rule off.")


def _check_custom_key(key: str, options: Any) -> None:
    where = f"{KEY}.custom_keys.{key}"
    if not str(key):
        raise ConfigError(f"{KEY}.custom_keys: an empty key would match every parameter; use lr_mult, decay_mult.")
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where}={options!r}: a custom key holds options. Write {{{key}: {{lr_mult: 0.1}}}}.")
    for name, value in options.items():
        if isinstance(value, Mapping):
            raise ConfigError(
                f"{where}.{name} holds further options: a key with dots, typed as a path, was split. Write "
                f"it as a literal: '{KEY}.custom_keys={{{key}.{name}: {{lr_mult: 0.1}}}}'."
            )
        if name in MULTIPLIERS:
            _check_factor(f"{where}.{name}", value)


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
