"""The fields of an average's config, and what they may be."""

from typing import Any

from optwrap.errors import ConfigError

KINDS = ("ema", "swa")
BATCH_NORM = ("copy", "average", "recompute")
FIELDS = {"kind": None, "decay": 0.999, "warmup": 10.0, "every": 1, "begin": 0.0, "batch_norm": "copy"}


def check_fields(**fields: Any) -> None:
    """Raise ConfigError where a value is out of range."""

    def wrong(name: str, remedy: str) -> ConfigError:
        return ConfigError(f"averaging.{name}={fields[name]!r}: {remedy}.")

    for name, options in (("kind", KINDS), ("batch_norm", BATCH_NORM)):
        if fields[name] not in options:
            raise wrong(name, f"it is one of {', '.join(options)}")
    for name in ("decay", "warmup", "every", "begin"):
        if isinstance(fields[name], bool) or not isinstance(fields[name], int | float):
            raise wrong(name, "it is a number")
    if not 0 <= fields["decay"] < 1:
        raise wrong("decay", "it lies between 0 and 1, below 1")
    if fields["warmup"] < 0:
        raise wrong("warmup", "it is 0 or more")
    if fields["every"] < 1 or fields["every"] != int(fields["every"]):
        raise wrong("every", "it is a number of updates, 1 or more")
    if fields["begin"] < 0 or (fields["begin"] >= 1 and fields["begin"] != int(fields["begin"])):
        raise wrong("begin", "it is the first update, or a part of all, as 0.75")
