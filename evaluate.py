"""Evaluate a finished run's checkpoint from its own saved config.

    python evaluate.py run=outputs/2026-01-31/12-00-00 [split=test|val] [checkpoint=last|best]
                       [weights=evaluated|raw] [allow=PACKAGE,...] [any override of the run's config]

`checkpoint=last` gives the numbers of result.json, `best` those of the best evaluation. Where the run evaluated
averages of its weights, so does this; `weights=raw` takes those that training made. The config may name code
of this project and of the libraries that models and data come from; `allow` adds packages. Overrides are, for
example, `device=cpu`, `batch_size=500` or `data.root=/where/the/data/is`.
"""

from pathlib import Path
from typing import Any

try:
    from optwrap import checkpoint, program, run, use
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing


def main(arguments: list[str]) -> dict[str, float]:
    """Return the metrics of the run's checkpoint, after printing them."""
    own, overrides = program.split_arguments(
        arguments,
        {"run": None, "split": "test", "checkpoint": "last", "weights": "evaluated", "allow": "experiments"},
    )
    folder = Path(own["run"])
    cfg = checkpoint.load_trusted_config(folder, overrides, own["allow"].split(","), own)
    metrics = evaluate_run(folder, cfg, own["split"], own["checkpoint"], own["weights"])
    for name, value in metrics.items():
        print(f"{own['split']}/{name:<12} {value:.4f}")
    return metrics


def evaluate_run(
    folder: Path, cfg: Any, split: str, which: str = "last", weights: str = "evaluated"
) -> dict[str, float]:
    """Build what `cfg` names, load the weights of `folder` and evaluate them."""
    use.check_choice("split", split, ("val", "test"))
    with use.trained(folder, cfg, which, weights) as it:
        return run.evaluate(it.task, it.data.evaluation(split))


if __name__ == "__main__":
    program.script(main, __doc__)
