"""How settings are written where there is little room."""

from collections.abc import Iterable, Sequence


def by_key(overrides: Iterable[object]) -> dict[str, str]:
    """Return overrides by key, less those that are Hydra's own.

    >>> by_key(["+seed=1", "hydra.run.dir=x"])
    {'seed': '1'}
    """
    pairs = (str(override).partition("=") for override in overrides)
    return {key.lstrip("+~"): value for key, _, value in pairs if not key.startswith("hydra")}


def short_number(value: str) -> str:
    """Return a number with many digits, as a search suggests them, with four; anything else as it is.

    >>> short_number("0.044303752452182654"), short_number("0.12345"), short_number("[sgd]")
    ('0.0443', '0.12345', '[sgd]')
    """
    if len(value) < 9:
        return value
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of dotted keys that tell them apart.

    >>> short_names(["optimizer.lr", "a.mult", "b.mult"])
    {'optimizer.lr': 'lr', 'a.mult': 'a.mult', 'b.mult': 'b.mult'}
    """
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        others = [f".{other}" for other in keys if other != key]
        names[key] = next((end for end in ends if not any(o.endswith(f".{end}") for o in others)), key)
    return names


def label(overrides: list[str]) -> str:
    """Return overrides with the shortest names of their keys.

    >>> label(["optim_wrapper.optimizer.lr=0.1", "seed=2"])
    'lr=0.1 seed=2'
    """
    names = short_names([override.partition("=")[0] for override in overrides])
    return " ".join(
        f"{names[key]}={short_number(value)}" for key, _, value in (each.partition("=") for each in overrides)
    )
