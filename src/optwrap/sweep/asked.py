"""Whether a run or a sweep was asked for, by what Hydra has composed: a file may ask for a sweep as `-m` does."""

import re

from hydra.conf import HydraConf
from hydra.types import RunMode

from optwrap.errors import ConfigError

_OF_A_SWEEP = re.compile(r"[+~]*hydra[./](launcher|sweeper|sweep)[.=]")


def check_asked(hydra: HydraConf, several_ranks: bool) -> None:
    """Check that what was typed fits: `several_ranks` tells whether torchrun started this process.

    Raises:
        ConfigError: each of the ranks would sweep, or a single run was told what counts in a sweep alone.
    """
    if hydra.mode == RunMode.MULTIRUN:
        if several_ranks:
            raise ConfigError(
                "hydra.mode=MULTIRUN: the config asks for a sweep, and under torchrun each process would sweep "
                "for itself. Let each job start its processes, without torchrun: python train.py ... nproc=2"
            )
        return
    for typed in hydra.overrides.hydra:
        if _OF_A_SWEEP.match(typed):
            raise ConfigError(
                f"{typed}: it counts in a sweep alone, and this would be a single run, here. Give -m: "
                f"python train.py -m {typed} ..."
            )
