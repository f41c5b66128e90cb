"""What a finished run came to: the content of `result.json`."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from optwrap import __version__
from optwrap.errors import ConfigError
from optwrap.optim import OptimWrapper
from optwrap.plan.objective import Objective
from optwrap.record.meters import peak_memory_mib

UNSHOWN = frozenset({"objective", "higher_is_better", "micro_batches", "versions", "device"})
"""What the summary on the terminal leaves out."""


def result_of(
    metrics: Mapping[str, float],
    wrappers: Mapping[str, OptimWrapper],
    objective: Objective,
    *,
    seed: int,
    micro_batches: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the result of a run, whose last `metrics` are named split/name."""
    device = next(iter(wrappers.values())).param_groups[0]["params"][0].device
    return {
        **metrics,
        "objective": objective.name,
        "higher_is_better": objective.higher_is_better,
        "seed": seed,
        # As the plan and the progress count them: by the longest window of several wrappers.
        "updates": min(wrapper.updates for wrapper in wrappers.values()),
        "skipped_steps": sum(wrapper.skipped_steps for wrapper in wrappers.values()),
        "micro_batches": micro_batches,
        "seconds": round(seconds, 2),
        "peak_memory_mib": peak_memory_mib(device),
        "versions": _versions(),
        "device": str(device),
    }


def check_some_update(wrappers: Mapping[str, OptimWrapper]) -> None:
    """Raise ConfigError where every step of a wrapper was skipped, so that nothing was learnt."""
    for name, wrapper in wrappers.items():
        if wrapper.skipped_steps and not wrapper.updates:
            raise ConfigError(
                f"optim_wrapper.{name}loss_scale: all {wrapper.skipped_steps} steps were skipped, since the "
                "scaled gradients overflowed. Lower a static scale, leave it dynamic, or use amp_bf16."
            )


def _versions() -> dict[str, str]:
    # The library's own version: a project under another name has no distribution called optwrap.
    versions = {"python": platform.python_version(), "optwrap": __version__}
    for package in ("torch", "torchvision", "hydra-core"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # on the path, but not installed
            continue
    return versions
