"""`python -m tests.optwrap.optim.zoo`: every model of timm beside timm's own param groups (5 minutes)."""

import logging
import sys
import warnings

from tests.optwrap.optim.zoo.timm_models import Outcome, names, outcomes

FIGURES = {
    "learning rate and weight decay are timm's": "scales",
    "blocks found without the model's word": "found",
    "learning rates then timm's, up to convention": "alike",
    "decay groups (norm, bias, flat) timm's": "decay",
    "every norm layer known as one": "norms",
}


def main() -> None:
    """Print a figure a line, with the models that it leaves out."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    seen: list[Outcome] = []
    for outcome in outcomes(names(int(sys.argv[1]) if len(sys.argv) > 1 else None)):
        seen.append(outcome)
        print(f"\r{len(seen)} models", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for what, field in FIGURES.items():
        left_out = [outcome.name for outcome in seen if not getattr(outcome, field)]
        print(f"{what}: {len(seen) - len(left_out)} of {len(seen)}")
        print(f"    not {', '.join(left_out)}" if left_out else "")


if __name__ == "__main__":
    main()
