"""The setting that others are compared with: the one that is named, or that of the defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from optwrap.config import store
from optwrap.config.parser_errors import load_bounded
from optwrap.errors import ConfigError
from optwrap.hydra_versions import VERSION_BASE
from optwrap.sweep.names import label, short_names
from optwrap.sweep.report.results import Composed, Job
from optwrap.sweep.report.settings import Setting, canonical


def named_baseline(compared: Sequence[Setting], told: Sequence[str]) -> Setting:
    """Return the setting with the values that `told` gives, KEY=VALUE each, by full or short names of the keys.

    Raises:
        ConfigError: none has them, or several.
    """
    keys = list(compared[0].values)
    by_name = {**{short: key for key, short in short_names(keys).items()}, **{key: key for key in keys}}
    wanted = dict(each.partition("=")[::2] for each in told)
    fits = [each for each in compared if _has(each, {by_name.get(name, name): wanted[name] for name in wanted})]
    if len(fits) == 1:
        return fits[0]
    shown = [label([f"{key}={value}" for key, value in each.values.items()]) for each in (fits or compared)[:5]]
    which = f"{len(fits)} settings have these values" if fits else "no setting has these values"
    raise ConfigError(f"baseline={','.join(told)}: {which}. Name one of: {'; '.join(shown)}.")


def default_baseline(compared: Sequence[Setting], jobs: Sequence[Job]) -> Setting | None:
    """Return the setting that has the value of the config's files for each key that was swept, if there is one."""
    keys = list(compared[0].values)
    if len(compared) < 2 or not keys:
        return None
    try:
        default = _defaults(jobs)
    except Exception:  # the configs of the jobs have moved, or are no longer these: there is no default's row
        return None
    return next((each for each in compared if _has(each, {key: default.get(key, "") for key in keys})), None)


def _has(setting: Setting, values: Mapping[str, str]) -> bool:
    return all(canonical(setting.values.get(key, "")) == canonical(value) for key, value in values.items())


def _defaults(jobs: Sequence[Job]) -> Composed:
    """Compose what a job would have been with those overrides alone that all jobs have."""
    first = jobs[0]
    hydra: Any = load_bounded(first.folder / ".hydra" / "hydra.yaml").hydra
    (conf,) = (source.path for source in hydra.runtime.config_sources if source.provider == "main")
    shared = [each for each in _typed(first) if all(each in _typed(job) for job in jobs)]
    store.register()
    with initialize_config_dir(str(Path(conf)), **VERSION_BASE):
        cfg = compose(hydra.job.config_name, shared, return_hydra_config=True)
    return Composed(cfg, cfg.hydra.runtime.choices)


def _typed(job: Job) -> list[str]:
    return list(job.record.overrides) if job.record else [f"{key}={value}" for key, value in job.overrides.items()]
