"""Write what a finished run's checkpoint predicts for each sample.

    python predict.py run=outputs/2026-01-31/12-00-00 [split=test|val|train] [data=FOLDER]
                      [checkpoint=last|best] [weights=evaluated|raw] [out=FILE.csv] [worst=16]
                      [allow=PACKAGE,...] [any override]

A row a sample, in the order of the data, without augmentation: for classification target, prediction, whether it
is correct, loss and the probability of each class; for another task what its `predict_step` returns. Beside it
lies a picture of the `worst` samples, which `report.py` shows. They are RUN/predictions/SPLIT.csv and
SPLIT_worst.png, and replace those of an earlier call; `out` names another file. What else is given overrides the
run's own config. `data` is a folder of images in files, in place of a split: RUN/predictions/data_FOLDER.csv.
"""

from pathlib import Path
from typing import Any

try:
    from optwrap import checkpoint, program, use
    from optwrap.errors import ConfigError
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing

OWN = {
    "run": None,
    "split": "test",
    "data": "",
    "checkpoint": "last",
    "weights": "evaluated",
    "out": "",
    "worst": "16",
    "allow": "experiments",
}


def main(arguments: list[str]) -> Any:
    """Write the predictions of the run's checkpoint; print and return what came out."""
    own, overrides = program.split_arguments(arguments, OWN)
    folder = Path(own["run"])
    cfg = checkpoint.load_trusted_config(folder, overrides, own["allow"].split(","), own)
    if not own["worst"].isdecimal() or int(own["worst"]) > 100:
        raise ConfigError(f"worst={own['worst']}: it is a number of samples from 0, no picture, to 100.")
    use.check_choice("split", own["split"], ("train", "val", "test"))
    if own["data"] and own["split"] != "test":
        raise ConfigError(f"split={own['split']} data={own['data']}: give one of them.")
    path = use.predictions_file(folder, own["split"], own["data"], own["out"])
    with use.trained(folder, cfg, own["checkpoint"], own["weights"]) as it:
        it = it.of_files(Path(own["data"])) if own["data"] else it
        done = use.write_predictions(it, own["split"], path, int(own["worst"]))
    for name, value in done.means.items():
        print(f"{own['split']}/{name:<12} {value:.4f}")
    print(f"{done.rows} samples:", *done.files, sep="\n")
    return done


if __name__ == "__main__":
    program.script(main, __doc__)
