import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from optwrap.checkpoint import files as checkpoint
from tests.optwrap.cases import one_in

QUICK = ("model.width=4", "max_updates=6", "eval_every=3", "log_every=2", "num_workers=0", "device=cpu")
FAKE = ("data=fake", "data.size=20", "data.image_size=32", "batch_size=4", "max_updates=1", "device=cpu")


def slowly(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def result(folder):
    return json.loads((folder / "result.json").read_text())


def without_times(folder):
    timed = {"seconds", "images_per_second"}
    return [{name: cell for name, cell in row.items() if name not in timed} for row in rows(folder)]


def fails(train, capsys, *overrides):
    """Run, and return what a user sees when it ends with exit code 1."""
    with pytest.raises(SystemExit) as end:
        train(*overrides)
    seen = capsys.readouterr()
    assert end.value.code == 1
    assert "Traceback" not in seen.err
    return seen.err


def test_the_default_run_learns_the_digits(train):
    folder = train("device=cpu")
    assert result(folder)["test/accuracy"] >= 0.97


def test_a_run_leaves_everything_that_it_promises(train):
    folder = train(*QUICK)
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        ".hydra", "train.log", "metrics.csv", "result.json", "param_groups.csv", "curves.png", "checkpoint.pt"
    }  # fmt: skip
    assert [(row["split"], row["update"]) for row in rows(folder)] == [
        ("train", "2"),
        ("val", "3"),
        ("train", "4"),
        ("train", "6"),
        ("val", "6"),
        ("test", "6"),
    ]
    assert {"loss", "accuracy", "lr", "grad_norm", "skipped_steps", "images_per_second"} <= rows(folder)[0].keys()
    assert result(folder)["objective"] == "val/accuracy"  # as the task says
    assert result(folder)["updates"] == 6
    assert result(folder).keys() >= {"test/accuracy", "test/loss", "val/accuracy", "seed", "seconds", "versions"}
    log = (folder / "train.log").read_text()
    assert "head.weight" in log
    assert "weight_decay" in log


# bfloat16 is slow on most CPUs; the quick setting of experiment=gan trains in it.
SLOW = ("sgd", "adamw", "adam", "amp_accum_clip", "[adamw,amp_bf16,no_norm_decay]")


@pytest.mark.parametrize("strategy", ["[adamw,accum4,clip_value]", *slowly("[RMSprop,clip]", *SLOW)])
def test_strategies_train(strategy, train):
    folder = train(*QUICK, f"optim_wrapper={strategy}")
    assert result(folder)["updates"] == 6


@pytest.mark.parametrize(
    "schedule", ["warmup_cosine", *slowly("constant", "step", "LinearLR", "cosine", "one_cycle")]
)
def test_schedules_move_the_learning_rate_with_updates(schedule, train):
    folder = train(*QUICK, "optim_wrapper=[sgd,accum2]", f"schedule={schedule}", "log_every=1")
    lrs = [float(row["lr"]) for row in rows(folder) if row["split"] == "train"]
    assert len(lrs) == 6
    assert (len(set(lrs)) == 1) is (schedule == "constant")


def test_weight_decay_can_be_scheduled_from_the_command_line(train):
    target = "{_target_: torch.optim.lr_scheduler.CosineAnnealingLR}"
    folder = train(*QUICK, f"+schedule.weight_decay={target}")
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["optim_wrapper"]["options"]["head.weight"]["weight_decay"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "switch", one_in(2, ["num_workers=1", "deterministic=true", "logger=tensorboard", "channels_last=true"])
)
def test_switches_train(switch, train):
    folder = train(*QUICK, switch)
    assert result(folder)["updates"] == 6
    assert (folder / "tensorboard").exists() is (switch == "logger=tensorboard")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_to_the_same_numbers(train):
    plain, compiled = train(*QUICK, "max_updates=2"), train(*QUICK, "max_updates=2", "compile=true")
    assert result(compiled)["test/loss"] == pytest.approx(result(plain)["test/loss"], rel=1e-3)
    keys = [torch.load(f / "checkpoint.pt", weights_only=True)["model"].keys() for f in (plain, compiled)]
    assert keys[0] == keys[1]


OTHERS = (
    "small_cnn",
    "torchvision model.name=mobilenet_v3_small",
    "resnet18",
    "resnet50",
    "vit_b_16",
    "convnext_tiny",
)


@pytest.mark.parametrize("model", ["small_vit", *slowly(*OTHERS)])
def test_models_train(model, train):
    folder = train(*FAKE, *f"model={model}".split())
    assert result(folder)["updates"] == 1


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(train):
    first, again, other = train(*QUICK), train(*QUICK), train(*QUICK, "seed=1")
    assert without_times(first) == without_times(again)
    assert without_times(first) != without_times(other)


def test_the_objective_is_returned_to_sweepers(tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    import train as program
    from optwrap.config import store
    from optwrap.hydra_versions import VERSION_BASE

    store.register()
    conf = str(Path(program.__file__).resolve().parent / "conf")
    with initialize_config_dir(conf, **VERSION_BASE):
        cfg = compose(
            "config",
            [*QUICK, "objective=test/loss", f"hydra.runtime.output_dir={tmp_path}"],
            return_hydra_config=True,
        )
        HydraConfig.instance().set_config(cfg)
        value = program.main(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]))
    assert value == result(tmp_path)["test/loss"]


def test_evaluate_finds_the_metrics_of_the_run_again(train, capsys):
    import evaluate

    folder = train(*QUICK, "optim_wrapper=amp_accum")
    for split in ("test", "val"):
        metrics = evaluate.main([f"run={folder}", f"split={split}", "batch_size=77"])
        assert metrics["accuracy"] == pytest.approx(result(folder)[f"{split}/accuracy"])
        assert metrics["loss"] == pytest.approx(result(folder)[f"{split}/loss"], rel=1e-5)
    assert "test/accuracy" in capsys.readouterr().out


def test_rows_say_the_lr_that_their_update_was_made_with(train):
    folder = train(*QUICK, "log_every=1", "optim_wrapper.optimizer.lr=0.6", "schedule.lr.warmup=5")
    lrs = [float(row["lr"]) for row in rows(folder) if row["split"] == "train"]
    assert lrs == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_a_run_whose_micro_batches_fill_no_whole_number_of_windows_loses_none(train):
    folder = train("epochs=1", "batch_size=300", "optim_wrapper=[sgd,accum2]", "device=cpu")
    assert result(folder)["micro_batches"] == 3
    assert result(folder)["updates"] == 2


def test_plateau_schedules_see_the_evaluations(train):
    folder = train(
        *QUICK, "eval_every=1", "schedule=ReduceLROnPlateau", "schedule.lr.patience=0",
        "schedule.lr.threshold=10", "log_every=1",
    )  # fmt: skip
    lrs = [float(row["lr"]) for row in rows(folder) if row["split"] == "train"]
    assert lrs[-1] < lrs[0]


def test_a_folder_that_cannot_be_written_is_named(train, capsys, tmp_path):
    (tmp_path / "file").touch()
    said = fails(train, capsys, *QUICK, f"hydra.run.dir={tmp_path}/file/run")
    assert f"{tmp_path}/file/run: Not a directory" in said
    assert "hydra.run.dir=" in said


def test_two_runs_do_not_share_a_folder(train, capsys, tmp_path):
    folder = train(*QUICK)
    before = (folder / "metrics.csv").read_text()
    assert "already holds a run" in fails(train, capsys, *QUICK, f"hydra.run.dir={folder}")
    assert (folder / "metrics.csv").read_text() == before


def test_a_diverging_run_names_the_update_and_what_to_try(train, capsys):
    said = fails(train, capsys, *QUICK, "optim_wrapper.optimizer.lr=1e30", "schedule=constant")
    assert "NaN or inf since epoch 1, update" in said
    assert "optim_wrapper.optimizer.lr" in said


@pytest.mark.parametrize(
    ("override", "said"),
    one_in(4, [
        ("bach_size=3", "batch_size"),
        ("optim_wrapper.acumulative_counts=2", "accumulative_counts"),
        ("optim_wrapper=[sgd,ampp]", "amp"),
        ("data=mnits", "mnist"),
        ("dta=mnist", "data"),
        ("epochs=many", "epochs"),
        ("epochs=0", "epochs=0"),
        ("optim_wrapper.loss_scale=512", "amp"),
        ("optim_wrapper=[sgd,adamw]", "adamw"),
        ("optim_wrapper=amp", "optimizer"),
        ("optim_wrapper.optimizer.momentm=0.9", "momentum"),
        ("optim_wrapper.optimizer.lr=-1", "optim_wrapper.optimizer.lr=-1.0"),
        ("optim_wrapper.clip_grad.max_norm=-1", "optim_wrapper.clip_grad.max_norm=-1"),
        ("optim_wrapper.paramwise_cfg.custom_keys.haed.lr_mult=0.1", "head"),
        ("optim_wrapper.paramwise_cfg.norm_deacy_mult=0", "norm_decay_mult"),
        ("device=cuda:99", "device=cuda:99"),
        ("batch_size=5000", "batch_size=5000"),
        ("objective=val/acc", "val/accuracy"),
        ("schedule=cosin", "cosine"),
        ("model.num_classes=7", "num_classes"),
        ("model.width=abc", "model.width='abc': expected int"),
        ("model.width=0", "model.width=0"),
        ("data.num_classes=ten", "data.num_classes='ten': expected int"),
        ("data.augment=maybe", "data.augment='maybe': expected bool or"),
        ("schedule.lr.warmup=x", "schedule.lr.warmup='x': expected float"),
        ("seed=99999999999999999999", "seed=99999999999999999999"),
        ("batch_size=1", "batch_size=1"),
        ("optim_wrapper=LBFGS", "closure"),
    ]),
)  # fmt: skip
def test_what_a_user_gets_wrong_is_one_message_that_names_it(override, said, train, capsys):
    assert said in fails(train, capsys, *QUICK, override)


def test_a_dev_run_passes_two_batches_through_everything(train):
    schedule = ("schedule=warmup_poly", "schedule.lr.warmup.until=20 epochs")  # more than there are
    folder = train("debug.fast_dev_run=true", "device=cpu", "epochs=500", *schedule)
    assert [(row["split"], row["update"]) for row in rows(folder)] == [
        ("train", "1"), ("train", "2"), ("val", "2"), ("test", "2")
    ]  # fmt: skip
    assert (folder / "checkpoints" / "update_000001.pt").exists()


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart(train):
    folder = train("debug.overfit_batches=1", "data.augment=false", "epochs=25", "eval_every=25", "device=cpu")
    assert result(folder)["test/accuracy"] == 1
    assert result(folder)["updates"] == 25


@pytest.mark.slow
@pytest.mark.parametrize("shards", [[], ["checkpoint.sharded=true"]])
def test_a_run_rolls_back_and_goes_on_with_other_data(shards, train, monkeypatch):
    from optwrap.vision import ClassificationTask

    train_step, count = ClassificationTask.train_step, 0

    def step(self, batch, optim_wrapper):
        nonlocal count
        count += 1
        if count == 4:
            batch = (batch[0] * float("nan"), batch[1])
        return train_step(self, batch, optim_wrapper)

    monkeypatch.setattr(ClassificationTask, "train_step", step)
    folder = train(*QUICK, "on_nonfinite=rollback", "log_every=1", "checkpoint.asynchronous=true", *shards)
    assert "update 4 (micro-batch 4): back to the last checkpoint" in (folder / "train.log").read_text()
    assert result(folder)["updates"] == 6
    weights = checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))["model"]
    assert all(torch.isfinite(each).all() for each in weights.values())


@pytest.mark.slow
def test_evaluate_takes_the_best_where_asked(train, capsys):
    import evaluate

    folder = train(
        *QUICK, "objective=val/loss", "optim_wrapper.optimizer.lr=0.5", "eval_every=1", "schedule=constant"
    )
    losses = [float(row["loss"]) for row in rows(folder) if row["split"] == "val"]
    metrics = evaluate.main([f"run={folder}", "split=val", "checkpoint=best"])
    assert metrics["loss"] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mixins",
    ["[adamw,ema]", "[sgd,swa]", "[ema,adamw] optim_wrapper.averaging.batch_norm=average", "schedule_free"],
)
def test_what_is_evaluated_are_the_averages_and_evaluate_finds_them(mixins, train):
    import evaluate

    folder = train(*QUICK, *f"optim_wrapper={mixins}".split(), "schedule=constant")
    metrics = evaluate.main([f"run={folder}"])
    assert metrics["accuracy"] == pytest.approx(result(folder)["test/accuracy"])
    assert metrics["loss"] == pytest.approx(result(folder)["test/loss"], rel=1e-5)
    raw = evaluate.main([f"run={folder}", "weights=raw"])
    assert raw["loss"] != metrics["loss"]


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another_and_goes_on_with_its_own(train):
    first = train(*QUICK, "optim_wrapper.optimizer.lr=0.2")
    second = train(*QUICK, f"init_from={first}", "optim_wrapper.optimizer.lr=1e-12")
    weights = [
        checkpoint.load(folder / "checkpoint.pt", torch.device("cpu"))["model"] for folder in (first, second)
    ]
    torch.testing.assert_close(weights[1]["head.weight"], weights[0]["head.weight"], rtol=1e-6, atol=1e-6)
    shutil.rmtree(first)
    train(f"resume={second}", "max_updates=9")
    assert result(second)["updates"] == 9


def test_evaluate_unpickles_nothing_that_a_foreign_config_names_as_text(train, tmp_path):
    import evaluate
    from optwrap.errors import ConfigError

    class Runs:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    folder = train(*QUICK)
    torch.save(Runs(), tmp_path / "evil.pt")
    path = folder / ".hydra" / "config.yaml"
    cfg = OmegaConf.load(path)
    cfg.data = {
        "_target_": "experiments.vit_layer_decay.some_classes",
        **{"source": "torch.load", "f": str(tmp_path / "evil.pt"), "weights_only": False},
        **{"classes": [0], "num_classes": 1, "channels": 3, "image_size": 8},
    }
    OmegaConf.save(cfg, path)
    with pytest.raises(ConfigError, match=r"data\.source=torch\.load: .*allow=torch"):
        evaluate.main([f"run={folder}"])
    assert not (tmp_path / "ran").exists()


def test_evaluate_runs_nothing_that_a_foreign_config_names(train, tmp_path):
    import evaluate
    from optwrap.errors import ConfigError

    folder = train(*QUICK)
    path = folder / ".hydra" / "config.yaml"
    cfg = OmegaConf.load(path)
    cfg.task = {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}
    OmegaConf.save(cfg, path)
    with pytest.raises(ConfigError, match=r"task\._target_=os\.mkdir: .*allow=os"):
        evaluate.main([f"run={folder}"])
    assert not (tmp_path / "ran").exists()
