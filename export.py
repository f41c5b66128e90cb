"""Export the model of a finished run, for programs that know nothing of it.

    python export.py run=outputs/2026-01-31/12-00-00 [to=onnx|program|safetensors] [checkpoint=last|best]
                     [weights=evaluated|raw] [out=DIR] [tolerance=1e-4] [allow=PACKAGE,...] [any override]

`onnx` is RUN/export/model.onnx, `program` (torch.export) model.pt2, `safetensors` the weights by their names in
model.safetensors; to=onnx,program makes both. They take batches of any size, in float32, and hold as metadata what
prepares their input, the classes, and where they come from. Each is loaded again and run on data of the run: what
differs from its model by more than `tolerance` (of outputs above 1, relative to the largest) is an error. Files of
an earlier call are replaced. What else is given overrides the run's own config.
"""

import math
from pathlib import Path
from typing import Any

try:
    from optwrap import checkpoint, program, use
    from optwrap.errors import ConfigError
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}. Install what the project needs first: pip install -e .") from missing

OWN = {
    "run": None,
    "to": "program",
    "checkpoint": "last",
    "weights": "evaluated",
    "out": "",
    "tolerance": "1e-4",
    "allow": "experiments",
}
PLAIN = {"device": "cpu", "compile": False, "channels_last": False}


def main(arguments: list[str]) -> Any:
    """Write the exported models of the run's checkpoint; print and return what came out."""
    own, overrides = program.split_arguments(arguments, OWN)
    folder = Path(own["run"])
    cfg = checkpoint.load_trusted_config(folder, overrides, own["allow"].split(","), own)
    for override in overrides:
        if override.partition("=")[0] in PLAIN:
            raise ConfigError(f"{override}: a plain model is exported, on the CPU. Leave it out.")
    cfg.update(PLAIN)
    tolerance = _number("tolerance", own["tolerance"])
    formats = use.chosen_formats(own["to"])
    with use.trained(folder, cfg, own["checkpoint"], own["weights"]) as it:
        done = use.write_exports(it, formats, Path(own["out"] or folder / "export"), tolerance)
    for each in done:
        print(f"{each.path}: differs from the run's model by {each.difference:.2g} at most")
    return done


def _number(key: str, typed: str) -> float:
    try:
        number = float(typed)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise ConfigError(f"{key}={typed}: it is a number from 0.")
    return number


if __name__ == "__main__":
    program.script(main, __doc__)
