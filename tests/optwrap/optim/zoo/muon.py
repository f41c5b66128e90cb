"""`python -m tests.optwrap.optim.zoo.muon`: what Muon holds of every model of timm, torchvision and transformers.

A number as argument takes so many models of each module of timm.
"""

import logging
import statistics
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn.modules.conv import _ConvNd

from optwrap.errors import ConfigError
from optwrap.optim.assignment.hidden.cut import shapes
from optwrap.optim.assignment.hidden.matrices import hidden_matrices
from tests.optwrap.optim.zoo.timm_models import names
from tests.optwrap.optim.zoo.torchvision_models import AUXILIARY, build, family_of
from tests.optwrap.optim.zoo.transformers_models import of_task

Heads = Collection[str]


@dataclass(frozen=True)
class Outcome:
    """What Muon holds of one model."""

    name: str
    heads_in_muon: list[str]
    left_out: list[str]  # layers with both sides of at least 4, and experts, that are none of the head
    share: float  # of the weights
    matrices: int
    said: str = ""  # where the head is not clear


def compare(name: str, model: nn.Module, heads: Heads) -> Outcome:
    """Compare with the names of the layers, or of what holds the layers, that are the head."""
    modules = dict(model.named_modules())
    of_head = {id(param) for head in heads for param in modules[head].parameters()}
    try:
        found = hidden_matrices(model)
    except ConfigError as error:
        return Outcome(name, [], [], 0.0, 0, str(error))
    held = {id(each.param.tensor) for each in found}
    params = dict(model.named_parameters())
    embeddings = {id(each.weight) for each in modules.values() if isinstance(each, nn.Embedding)}
    wanted = {key: param for key, param in params.items() if _is_matrix(key, modules, param)}
    return Outcome(
        name,
        [each.param.name for each in found if id(each.param.tensor) in of_head],
        [key for key, param in wanted.items() if id(param) not in held | of_head | embeddings],
        sum(each.param.tensor.numel() for each in found) / sum(param.numel() for param in params.values()),
        sum(len(shapes(each.cut, each.param.tensor)) for each in found),
    )


def _is_matrix(key: str, modules: dict[str, nn.Module], param: nn.Parameter) -> bool:
    path, _, attribute = key.rpartition(".")
    owner = modules[path]
    if path.endswith("experts") and param.ndim == 3:
        return True
    if isinstance(owner, nn.MultiheadAttention):
        return attribute == "in_proj_weight"
    is_layer = isinstance(owner, nn.Linear | _ConvNd) and attribute == "weight"
    is_router = "router" in path or (path.endswith(".gate") and f"{path[:-4]}experts" in modules)
    return is_layer and not is_router and min(param.shape[:2]) >= 4


def of_timm(each_module: int | None = None) -> Iterator[Outcome]:
    """Yield outcomes of timm's models, as they come and without a classifier; its word on that is the oracle."""
    import timm

    for name in names(each_module):
        with torch.device("meta"):
            model = timm.create_model(name)
        modules = dict(model.named_modules())
        told = (model.default_cfg or {}).get("classifier") or ()
        told = [*([told] if isinstance(told, str) else told), *(HEADS & modules.keys())]
        heads = [each for each in told if each in modules and any(True for _ in modules[each].parameters())]
        yield compare(name, model, heads)
        if heads and hasattr(model, "reset_classifier"):
            with torch.device("meta"):
                model.reset_classifier(0)
            yield compare(f"{name} without a classifier", model, ())


# Of distilled models whose default_cfg names one alone.
HEADS = {"head_dist.linear"}


def of_torchvision() -> Iterator[Outcome]:
    """Yield outcomes of torchvision's classification models; the last layer of what is called a head is it."""
    for name in torchvision.models.list_models(module=torchvision.models):
        model = build(name)
        modules = dict(model.named_modules())
        *_, head = family_of(name)
        inside = [each for each, module in modules.items() if isinstance(module, nn.Linear | _ConvNd)]
        *_, last = [each for each in inside if each == head or each.startswith(f"{head}.")]
        yield compare(name, model, [last, *(each for each in AUXILIARY if each in modules)])


def of_transformers() -> Iterator[Outcome]:
    """Yield outcomes of transformers' architectures, with and without a head, by its own word."""
    for name, model, heads in of_task():
        yield compare(name, model, heads)


def main() -> None:
    """Print a line for each package, and every model with a head in Muon or a matrix left out."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    each_module = int(sys.argv[1]) if len(sys.argv) > 1 else None
    packages: dict[str, Any] = {
        "timm": of_timm(each_module),
        "torchvision": of_torchvision(),
        "transformers": of_transformers(),
    }
    for package, outcomes in packages.items():
        seen = list(outcomes)
        heads, left, unclear = ([o.name for o in seen if getattr(o, field)] for field in FIELDS)
        shares = [100 * each.share for each in seen]
        print(
            f"{package}: {len(seen)} models; a head in Muon in {len(heads)}, a hidden matrix left out in "
            f"{len(left)}, unclear {len(unclear)}; Muon holds {statistics.median(shares):.0f} % (median), "
            f"{min(shares):.0f} to {max(shares):.0f} % of the weights"
        )
        for outcome in seen:
            if outcome.heads_in_muon or outcome.left_out or outcome.said:
                print(f"    {outcome}")


FIELDS = ("heads_in_muon", "left_out", "said")

if __name__ == "__main__":
    main()
