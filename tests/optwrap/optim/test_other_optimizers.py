"""Optimizers of other packages by `_target_`: mixed precision, accumulation, clipping, resume, another plan.

The table in docs/models.md says the same; a package that is not installed is skipped.
"""

import re

import pytest

from tests.optwrap.resume.compare import differences

TIMM = ["AdaBelief", "Adahessian", "AdamP", "Adan", "Adopt", "LaProp", "Lamb", "Lars", "Lion", "MADGRAD"]
TIMM += ["Mars", "Muon", "NAdamW", "NvNovoGrad", "RMSpropTF", "SGDP", "SGDW", "Adafactor", "AdafactorBigVision"]
WORKS = {f"timm.optim.{name}": {"lr": 0.001} for name in TIMM if name != "Adahessian"} | {
    "timm.optim.Adafactor": {"lr": None},
    "lion_pytorch.Lion": {"lr": 0.001},
    "prodigyopt.Prodigy": {"lr": 1.0},
    "schedulefree.AdamWScheduleFree": {"lr": 0.001},
    "schedulefree.SGDScheduleFree": {"lr": 0.01},
    "schedulefree.RAdamScheduleFree": {"lr": 0.001},
    "timm.optim.kron.Kron": {"lr": 0.001},
    "came_pytorch.CAME": {"lr": 0.001},
    "galore_torch.GaLoreAdamW": {"lr": 0.001, "no_deprecation_warning": True},
    "apollo_torch.APOLLOAdamW": {"lr": 0.001, "no_deprecation_warning": True},
    "bitsandbytes.optim.AdamW8bit": {"lr": 0.001},
    "torchao.optim.AdamW8bit": {"lr": 0.001},
    "torchao.optim.AdamW4bit": {"lr": 0.001},
    "pytorch_optimizer.SOAP": {"lr": 0.001},
    "pytorch_optimizer.StableAdamW": {"lr": 0.001},
    "pytorch_optimizer.Ranger21": {"lr": 0.001, "num_iterations": 6},
    "pytorch_optimizer.AdEMAMix": {"lr": 0.001},
    "pytorch_optimizer.DAdaptAdam": {"lr": 1.0},
    "pytorch_optimizer.Adai": {"lr": 0.01},
    "heavyball.AdamW": {"lr": 0.001},
    "heavyball.SOAP": {"lr": 0.001},
}
SMALL = (
    "data=fake",
    "data.size=48",
    "data.eval_size=16",
    "data.image_size=8",
    "model.width=4",
    "schedule=constant",
)
SMALL += ("batch_size=4", "device=cpu", "log_every=1", "seed=3")
MIXINS = "optim_wrapper=[amp,accum2,clip]"


def node(target, options):
    pytest.importorskip(target.partition(".")[0])
    said = ", ".join(f"{key}: {'null' if value is None else str(value).lower()}" for key, value in options.items())
    return f"optim_wrapper.optimizer={{_target_: {target}, {said}}}"


@pytest.mark.slow
@pytest.mark.parametrize("target", WORKS)
def test_it_trains_goes_on_to_the_bit_and_under_another_plan(target, train, tmp_path):
    own = (*SMALL, MIXINS, node(target, WORKS[target]))
    whole = train(*own, "max_updates=6")
    parts = tmp_path / "parts"
    train(*own, "max_updates=3", "checkpoint.every=3", f"hydra.run.dir={parts}")
    train(*own, "max_updates=6", f"hydra.run.dir={parts}", "resume=auto")
    assert differences(whole, parts) == []
    changed = (*own[:-2], "optim_wrapper=[amp,accum4,clip]", own[-1])
    train(*changed, "max_updates=8", "batch_size=8", f"hydra.run.dir={parts}", "resume=auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("pytorch_optimizer.ScalableShampoo", {"lr": 0.001}, r"this one holds a .*, so no run could read it"),
        ("timm.optim.Adahessian", {"lr": 0.001}, "create_graph"),
    ],
)
def test_what_does_not_work_says_why(target, options, said, train, capsys):
    with pytest.raises(SystemExit):
        train(*SMALL, MIXINS, node(target, options), "max_updates=2")
    assert re.search(said, capsys.readouterr().err)
