"""Evaluate a finished run's checkpoint from its own saved config.

    python evaluate.py run=outputs/2026-01-31/12-00-00 [split=test|val] [checkpoint=last|best]
                       [allow=PACKAGE,...] [any override of the run's config]

`checkpoint=last` gives the numbers of result.json, `best` those of the best evaluation. The config may name code
of this project and of the libraries that models and data come from; `allow` adds packages. Overrides are, for
example, `device=cpu`, `batch_size=500` or `data.root=/where/the/data/is`.
"""

import optwrap.ctrl_c  # noqa: F401, I001 -- before all that takes long to load
from pathlib import Path

from omegaconf import DictConfig

from optwrap.errors import ConfigError
from optwrap.checkpoint.saved import load_config, run_program, split_arguments

_BUILT = ("data", "model", "task")


def main(arguments: list[str]) -> dict[str, float]:
    """Return the metrics of the run's checkpoint, after printing them."""
    from optwrap.config.trusted import PACKAGES, only_trusted

    own, overrides = split_arguments(
        arguments, {"run": None, "split": "test", "checkpoint": "last", "allow": "experiments"}
    )
    folder = Path(own["run"])
    cfg = only_trusted(load_config(folder, overrides), _BUILT, (*PACKAGES, *own["allow"].split(",")))
    metrics = evaluate_run(folder, cfg, own["split"], own["checkpoint"])
    for name, value in metrics.items():
        print(f"{own['split']}/{name:<12} {value:.4f}")
    return metrics


def evaluate_run(folder: Path, cfg: DictConfig, split: str, which: str = "last") -> dict[str, float]:
    """Build what `cfg` names, load the weights of `folder` and evaluate them."""
    from optwrap.checkpoint import files as checkpoint
    from optwrap.checkpoint.files import Checkpoints
    from optwrap.instantiate import build
    from optwrap.run import setup
    from optwrap.run.evaluation import evaluate
    from optwrap.run.loaders import batches, make_loaders

    if split not in ("val", "test"):
        raise ConfigError(f"split={split}: it is val or test.")
    if which not in ("last", "best"):
        raise ConfigError(f"checkpoint={which}: it is last or best.")
    setup.seed_everything(cfg.seed, cfg.deterministic)
    device = setup.find_device(cfg.device)
    model = setup.place(build(cfg.model, "model"), device, cfg.channels_last, cfg.compile)
    path, state = Checkpoints.of_run(folder).find(which, device)
    checkpoint.load_model(model, state, path)
    task = build(cfg.task, "task", model=model)
    task.metrics.to(device)
    loaders = make_loaders(build(cfg.data, "data"), cfg.batch_size, cfg.num_workers, cfg.seed, device)
    return evaluate(task, batches(getattr(loaders, split), device, cfg.channels_last))


if __name__ == "__main__":
    run_program(main, __doc__)
