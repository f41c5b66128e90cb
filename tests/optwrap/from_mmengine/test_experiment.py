"""Whole configs to experiments: what their YAML says, composes to, and trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from optwrap.errors import ConfigError
from optwrap.from_mmengine.experiment import experiment_of
from optwrap.from_mmengine.reading.config import read_config

SCHEDULE = """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0001))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=256)
"""
RESNET = "_base_ = ['schedule.py', 'data.py']\nmodel = dict(type='ImageClassifier')\n"
DATA = "train_dataloader = dict(batch_size=32, num_workers=5)\n"
VIT = """
_base_ = ['schedule.py', 'data.py']
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0003, weight_decay=0.05, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=1.0),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65, norm_decay_mult=0.0, bias_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.0001, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=95, by_epoch=True, begin=5, end=100, eta_min=1e-6,
         convert_to_iter_based=True)]
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
auto_scale_lr = dict(base_batch_size=1024, enable=True)
"""
GAN = """
_base_ = 'data.py'
optim_wrapper = dict(
    constructor='MultiOptimWrapperConstructor',
    generator=dict(optimizer=dict(type='Adam', lr=0.0004, betas=(0.5, 0.999))),
    discriminator=dict(type='AmpOptimWrapper', optimizer=dict(type='Adam', lr=0.0001), accumulative_counts=2))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=5000, val_interval=500)
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], tuple[dict[str, Any], Path]]:
    """Write a config with the bases above, and read it."""
    (tmp_path / "schedule.py").write_text(SCHEDULE)
    (tmp_path / "data.py").write_text(DATA)

    def read(text: str) -> tuple[dict[str, Any], Path]:
        (path := tmp_path / "own.py").write_text(text)
        return read_config(path), path

    return read


@pytest.fixture
def composed(
    config: Callable[..., Any], compose_experiment: Callable[[str], DictConfig]
) -> Callable[[str], DictConfig]:
    """Translate a config, and compose what comes out."""
    return lambda text: compose_experiment(experiment_of(*config(text))[0])


def test_a_resnet(composed: Callable[[str], DictConfig]) -> None:
    cfg = composed(RESNET)
    assert (cfg.epochs, cfg.max_updates, cfg.eval_every, cfg.batch_size) == (100, None, None, 32)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer._target_, optimizer.lr, optimizer.momentum) == ("torch.optim.SGD", 0.1, 0.9)
    assert cfg.optim_wrapper.auto_scale_lr.base_batch_size is None
    assert set(cfg.schedule) == {"lr"}


def test_a_vit(composed: Callable[[str], DictConfig]) -> None:
    cfg = composed(VIT).optim_wrapper
    assert cfg._target_ == "optwrap.optim.AmpOptimWrapper"
    assert cfg.constructor._target_ == "optwrap.optim.LayerDecayOptimWrapperConstructor"
    assert (cfg.optimizer._target_, cfg.optimizer.weight_decay) == ("torch.optim.AdamW", 0.05)
    assert (cfg.paramwise_cfg.decay_factor, cfg.paramwise_cfg.decay_by, cfg.paramwise_cfg.strict) == (
        *(0.65, "block"),
        False,
    )
    assert cfg.paramwise_cfg.custom_keys[".cls_token"] == {"decay_mult": 0.0}
    assert (cfg.averaging.kind, cfg.averaging.decay, cfg.averaging.warmup) == ("ema", 1 - 1e-4, 0.0)
    assert (cfg.auto_scale_lr.base_batch_size, cfg.auto_scale_lr.rule) == (1024, "linear")


def test_a_gan(composed: Callable[[str], DictConfig]) -> None:
    cfg = composed(GAN)
    assert (cfg.max_updates, cfg.eval_every) == (2500, 250)
    assert (cfg.optim_wrapper.generator.optimizer.lr, cfg.optim_wrapper.discriminator.optimizer.lr) == (4e-4, 1e-4)
    assert cfg.optim_wrapper.discriminator._target_ == "optwrap.optim.AmpOptimWrapper"
    assert cfg.optim_wrapper.discriminator.accumulative_counts == 2


def test_what_is_left_and_what_is_to_be_known_are_comments(config: Callable[..., Any]) -> None:
    text, left, notes = experiment_of(*config(RESNET + "optim_wrapper = dict(colour='red')\n"))
    assert [line.partition("=")[0] for line in left] == ["optim_wrapper.colour"]
    assert len(notes) == 2
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments == [
        *("# own: how it is optimised, from a config of MMEngine", "#", "# To be done by hand:"),
        *(f"# - {line}" for line in left),
        *("#", "# To be known:"),
        *(f"# - {line}" for line in notes),
    ]
    assert yaml.safe_load(text)["epochs"] == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "it has no optim_wrapper"),
        ("optim_wrapper = None", "it has no optim_wrapper"),
        ("optimizer = dict(type='SGD')\nrunner = dict()", r"one of MMCV before MMEngine \(optimizer, runner\)"),
        ("optim_wrapper = dict(constructor='MultiOptimWrapperConstructor')", "names no optimizer"),
    ],
)
def test_a_config_that_optimises_nothing_is_one_message(config: Callable[..., Any], text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment_of(*config(text))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "more"),
    [
        (f"{RESNET}param_scheduler = dict(milestones=[1, 2])\n", ["model=resnet50", "epochs=3"]),
        (VIT, ["model=small_vit", "epochs=6"]),
    ],
    ids=["resnet", "vit"],
)
def test_it_trains(
    text: str,
    more: list[str],
    config: Callable[..., Any],
    as_experiment: Callable[[str], str],
    train: Callable[..., Path],
) -> None:
    name = as_experiment(experiment_of(*config(text))[0])
    folder = train(f"experiment={name}", *more, "data=fake", "data.size=64", "device=cpu")
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) > 2
    assert (folder / "checkpoint.pt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "package"),
    [
        ("type='LARS', lr=0.1, momentum=0.9, weight_decay=1e-6, eta=0.001", "timm"),
        ("type='Lamb', lr=0.005, weight_decay=0.02", "timm"),
        ("type='Adan', lr=0.001, max_grad_norm=0.0", "timm"),
        ("type='Lion', lr=0.0001, betas=(0.9, 0.99)", "lion_pytorch"),
        ("type='Prodigy', lr=1.0", "prodigyopt"),
    ],
)
def test_optimizers_of_other_packages_train(
    optimizer: str,
    package: str,
    config: Callable[..., Any],
    as_experiment: Callable[[str], str],
    train: Callable[..., Path],
) -> None:
    pytest.importorskip(package)
    text = f"optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict({optimizer}), accumulative_counts=2)\n"
    name = as_experiment(experiment_of(*config(text + "train_cfg = dict(max_epochs=2)\n"))[0])
    folder = train(f"experiment={name}", "model=small_vit", "data=fake", "data.size=128", "batch_size=32")
    assert (folder / "checkpoint.pt").is_file()
