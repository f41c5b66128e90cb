"""The same numbers: k ranks that share a batch, one rank with k micro-batches, one rank with the whole batch."""

from pathlib import Path

import pytest
import torch

from tests.optwrap.distributed.harness import weights

SMALL = (
    *("data=digits", "data.augment=false", "model=small_vit", "model.dim=16", "model.depth=2", "model.heads=2"),
    *("device=cpu", "max_updates=5", "log_every=2", "schedule=constant"),
)
EPS = "optim_wrapper.optimizer.eps=1e-4"  # else Adam makes updates of the rounding of gradients that are zero
MIXINS = {
    "sgd": ["optim_wrapper=sgd", "optim_wrapper.optimizer.lr=0.2"],
    "clipped": ["optim_wrapper=[adamw,clip]", "optim_wrapper.clip_grad.max_norm=0.1", EPS],
    "paramwise": ["optim_wrapper=[sgd,no_norm_decay,clip]", "optim_wrapper.clip_grad.norm_type=1"],
    "ema": ["optim_wrapper=[adamw,ema,clip]", EPS],
    "schedule-free": ["optim_wrapper=schedule_free", EPS],
    "by value": ["optim_wrapper=[sgd,clip_value]", "optim_wrapper.clip_grad.clip_value=0.001"],
    "layer decay": ["optim_wrapper=[adamw,layer_decay]", EPS],
    "weighted": ["optim_wrapper=[sgd,clip]", "task._target_=tests.optwrap.distributed.tasks.WeightedTask"],
    "text": [
        *("optim_wrapper=[adamw,clip]", EPS, "task._target_=optwrap.text.LanguageModelTask"),
        *(
            "model._target_=tests.optwrap.distributed.tasks.tiny_gpt",
            "data._target_=tests.optwrap.distributed.tasks.texts",
        ),
    ],
    "hybrid": ["optim_wrapper=hybrid_muon"],
    "amp": ["optim_wrapper=[sgd,amp,clip]", "optim_wrapper.loss_scale={init_scale: 1024}"],
    "gan": [
        *("optim_wrapper=gan", "optim_wrapper/generator=[sgd,clip]", "optim_wrapper/discriminator=[sgd,clip]"),
        *(
            "model._target_=tests.optwrap.distributed.tasks.TinyGan",
            "task._target_=tests.optwrap.distributed.tasks.TinyGanTask",
        ),
    ],
}
SAM = {
    "climbing alone": ["optim_wrapper=[adamw,sam,clip]", "optim_wrapper.sam.rho=0.5", EPS],
    "climbing together": ["optim_wrapper=[adamw,asam,clip]", EPS],
}
BATCH = 32
STRATEGIES = {
    "ddp": ["strategy=ddp"],
    "fsdp2": ["strategy=fsdp2"],
    "hybrid sharding": ["strategy=fsdp2", "strategy.replicas=2"],
}
PLACES = [(how, size) for how in STRATEGIES for size in (1, 2, 4) if how != "hybrid sharding" or size == 4]


def command(name: str, folder: Path, *overrides: str, batch: int = BATCH, counts: int = 2) -> list[str]:
    wrappers = ["generator.", "discriminator."] if name == "gan" else [""]
    windows = [f"optim_wrapper.{wrapper}accumulative_counts={counts}" for wrapper in wrappers]
    windows = windows if name != "climbing together" else []
    return [*SMALL, *(MIXINS | SAM)[name], *windows, f"batch_size={batch}", f"hydra.run.dir={folder}", *overrides]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ranks):
    """Weights of a run on some ranks; all those of one number of ranks are trained together."""
    base = tmp_path_factory.mktemp("trajectory")

    def run(name, strategy, size, names):
        folder = base / f"{name}-{strategy}-{size}"
        if not folder.exists():
            jobs = [
                command(each, base / f"{each}-{how}-{size}", *STRATEGIES[how])
                for each in names
                for how, ranks_of_it in PLACES
                if ranks_of_it == size
                and (each in MIXINS or how == strategy)
                and not (base / f"{each}-{how}-{size}").exists()
            ]
            ranks(size, jobs, base)
        return weights(folder)

    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights of the same run in one process without a strategy, with the batch whole or in pieces."""
    import logging
    import sys

    from hydra.core.global_hydra import GlobalHydra

    import train as program

    base, done = tmp_path_factory.mktemp("alone"), {}

    def run(name, pieces):
        if (name, pieces) not in done:
            folder = base / f"{name}-{pieces}"
            sys.argv[:] = ["train.py", *command(name, folder, batch=BATCH // pieces, counts=2 * pieces)]
            GlobalHydra.instance().clear()
            program.main()
            for handler in logging.getLogger().handlers[:]:
                logging.getLogger().removeHandler(handler)
            done[name, pieces] = weights(folder)
        return done[name, pieces]

    before = sys.argv[:]
    yield run
    sys.argv[:] = before


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_ranks_that_share_a_batch_train_as_one_rank_does(strategy, trained, alone):
    check("weighted", 2, trained("weighted", strategy, 2, ["weighted"]), alone)


@pytest.mark.slow
def test_replicas_climb_each_by_itself_as_micro_batches_do(trained, alone):
    found = trained("climbing alone", "ddp", 2, ["climbing alone"])
    torch.testing.assert_close(found, alone("climbing alone", 2), rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_shards_climb_together(trained, alone):
    found = trained("climbing together", "fsdp2", 2, ["climbing together"])
    torch.testing.assert_close(found, alone("climbing together", 1), rtol=1e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "size"), PLACES)
@pytest.mark.parametrize("name", MIXINS)
def test_so_they_do_with_every_mixin(name, strategy, size, trained, alone):
    check(name, size, trained(name, strategy, size, MIXINS), alone)


def check(name, size, found, alone):
    # amp computes in bfloat16, and so does Muon what it makes of a gradient.
    tolerance = {"rtol": 5e-2, "atol": 5e-3} if name in ("amp", "hybrid") else {"rtol": 1e-3, "atol": 2e-5}
    # A generator sees the discriminator's update in the last micro-batch of a window, whichever part that is.
    for pieces in {1} if name == "gan" else {1, size}:
        torch.testing.assert_close(found, alone(name, pieces), **tolerance)
