"""Whatever is typed, or lies in a file: one message, never a traceback of ours, never a changed earlier file.

`pytest tests/optwrap/test_fuzz.py --cases=2500` tries so many cases of each kind; without it, a few.
"""

import contextlib
import copy
import io
import json
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import train as program
from optwrap.checkpoint import files as checkpoint
from optwrap.checkpoint.files import Checkpoints
from optwrap.checkpoint.resume import find_saved, finished_value, restore, start_of
from optwrap.checkpoint.saved import load_config
from optwrap.checkpoint.state import RunParts
from optwrap.config.resuming import with_saved_overrides
from optwrap.config.trusted import only_trusted
from optwrap.errors import ConfigError
from optwrap.loggers import CsvLogger
from optwrap.optim import build_optim_wrapper, build_schedule
from optwrap.plan.order import TrainingOrder
from optwrap.plan.plan import make_plan
from optwrap.plan.random_state import get_random_state

CPU = torch.device("cpu")
KEYS = [
    *("seed", "epochs", "batch_size", "device", "optim_wrapper", "optim_wrapper.optimizer.lr", "schedule", "data"),
    *("optim_wrapper.clip_grad", "optim_wrapper.paramwise_cfg.custom_keys", "optim_wrapper/generator", "model"),
    *("model.width", "task", "schedule.lr", "experiment", "logger", "resume", "log_level", "on_nonfinite"),
    *("checkpoint.every", "checkpoint", "debug.profile", "hydra.run.dir", "hydra/launcher"),
]
WORDS = [
    *("sgd", "adamw", "amp", "clip", "accum2", "gan", "multi", "hybrid_muon", "digits", "mnist", "small_vit"),
    *("cosine", "one_cycle", "null", "true", "-1", "1e400", "[sgd,amp]", "[]", "{}", "{a:1}", "${seed}"),
    *("${nowhere}", "???", "auto", "error", "skip", "DEBUG"),
]
TEXT = st.text(max_size=12)
VALUES = st.one_of(
    st.sampled_from(WORDS), TEXT, st.integers().map(str), st.floats().map(str),
    st.lists(st.sampled_from(WORDS), max_size=3).map(lambda words: f"[{','.join(words)}]"),
)  # fmt: skip
OVERRIDES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), st.sampled_from(KEYS) | TEXT, VALUES).map(
            lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"
        ),
        TEXT,
    ),
    min_size=1,
    max_size=3,
).filter(lambda each: not any(override.startswith("-") for override in each))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(WORDS)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3)
)


@pytest.fixture
def every_case(pytestconfig):
    """Run a check on as many drawn cases as asked for."""
    cases = pytestconfig.getoption("--cases")
    health = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

    def run(check, *strategies):
        decorated = given(*strategies)(check)
        settings(max_examples=cases, deadline=None, suppress_health_check=health, database=None)(decorated)()

    return run


def test_any_command_line_composes_or_is_one_message(every_case, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def check(overrides):
        monkeypatch.setattr(sys, "argv", ["train.py", "--cfg", "job", "--resolve", *overrides])
        GlobalHydra.instance().clear()
        said, code = io.StringIO(), 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                program.main()
            except SystemExit as end:
                code = end.code
        assert code in (None, 0, 1, 2)
        assert "Traceback" not in said.getvalue()
        assert not code or said.getvalue().strip()
        assert list(tmp_path.iterdir()) == []

    every_case(check, OVERRIDES)


def test_any_yaml_as_the_config_of_a_run_is_read_or_one_message(every_case, tmp_path):
    (tmp_path / ".hydra").mkdir()
    valid = {
        "data": {},
        "model": {"_target_": "torch.nn.Linear"},
        "task": {},
        "seed": 0,
        "device": "cpu",
        "batch_size": 1,
    }

    def check(text, tree, key, override):
        for content in (
            text.encode(),
            yaml.safe_dump(tree).encode(),
            yaml.safe_dump({**valid, key: tree}).encode(),
        ):
            for name in ("config.yaml", "overrides.yaml"):
                (tmp_path / ".hydra" / name).write_bytes(content)
            with contextlib.suppress(ConfigError):
                only_trusted(load_config(tmp_path, override), ["data", "model", "task"])
            with contextlib.suppress(ConfigError):
                with_saved_overrides([f"resume={tmp_path}"])
            assert (tmp_path / ".hydra" / "config.yaml").read_bytes() == content

    overrides = st.lists(st.tuples(st.sampled_from([*valid, "data.x"]) | TEXT, VALUES).map("=".join), max_size=2)
    every_case(check, st.text(), TREES, st.sampled_from(list(valid)), overrides)


def _toy_run(folder):
    """Return a checkpoint of a tiny run, and what makes the parts of one like it."""

    def parts():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        cfg = {"optimizer": {"_target_": "torch.optim.Adam"}, "accumulative_counts": 2}
        optim_wrapper = build_optim_wrapper(model, cfg)
        schedule = build_schedule(optim_wrapper, {"lr": {"_target_": "torch.optim.lr_scheduler.ConstantLR"}}, 20)
        return RunParts(model, optim_wrapper, schedule, SimpleNamespace())

    run = parts()
    for _ in range(5):
        run.optim_wrapper.update_params(run.model(torch.randn(4, 2)).sum())
    numbers = {"micro_batches": 5, "shift": 0, "held": 1, "update": 2, "updates_planned": 10}
    state = run.state_dict() | {
        "progress": numbers | {"per_epoch": 4, "batch_size": 4, "accumulative_counts": 2},
        **{
            "recorder": {},
            "random": get_random_state(CPU),
            "config": {"schedule": {}},
            "best": None,
            "rollbacks": 0,
        },
    }
    path = Checkpoints(folder / "checkpoints", folder / "checkpoint.pt").save(state, 2, 1)
    return path, state, parts


def _go_on(folder, parts):
    saved = find_saved("auto", Checkpoints(folder / "checkpoints", folder / "checkpoint.pt"), CPU)
    run = parts()
    start = start_of(saved, TrainingOrder(16, 4, 0), 2)
    numbers = {"epochs": 10, "max_updates": None, "log_every": 1, "eval_every": None}
    restore(run, saved, make_plan(4, run.optim_wrapper, start=start, **numbers), {"schedule": {}})
    return run


def test_any_damage_to_a_checkpoint_is_noticed(every_case, tmp_path):
    path, _, parts = _toy_run(tmp_path)
    whole = path.read_bytes()

    def check(junk, place, cut, flip):
        damaged = bytearray(whole)
        damaged[place % len(whole)] ^= 1 << flip
        damaged = [junk, whole[: cut % len(whole)], bytes(damaged), junk + whole, whole[: cut % len(whole)] + junk]
        for content in damaged:
            path.write_bytes(content)
            with contextlib.suppress(ConfigError):
                state = checkpoint.load(path, CPU)  # a bit that no one reads, such as a date
                assert state.keys() == checkpoint.load(_written(tmp_path / "whole.pt", whole), CPU).keys()
                _go_on(tmp_path, parts)
            assert path.read_bytes() == content

    every_case(check, st.binary(max_size=200), st.integers(0), st.integers(0), st.integers(0, 7))


def test_any_content_of_a_checkpoint_is_gone_on_with_or_one_message(every_case, tmp_path):
    path, state, parts = _toy_run(tmp_path)
    _go_on(tmp_path, parts)
    places = list(_places(state))

    def check(place, value):
        changed = copy.deepcopy(state)
        node = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        checkpoint.save(path, changed)
        before = path.read_bytes()
        with contextlib.suppress(ConfigError):
            _go_on(tmp_path, parts)
        assert path.read_bytes() == before

    values = TREES.filter(lambda value: abs(value) < 10**9 if isinstance(value, int) else True)
    every_case(check, st.sampled_from(places), values | st.just(torch.zeros(3)))


def test_any_bytes_as_a_record_are_read_or_one_message(every_case, tmp_path):
    saved = SimpleNamespace(state={"progress": {"micro_batches": 1}})
    plan = SimpleNamespace(start=SimpleNamespace(micro_batches=1), micro_batches=1)

    def check(content, tree, rows, columns):
        path = tmp_path / "metrics.csv"
        for each in (content, json.dumps(tree).encode()):
            (tmp_path / "result.json").write_bytes(each)
            assert isinstance(finished_value(tmp_path, saved, plan, "val/loss"), float | None)
            path.write_bytes(each)
            try:
                CsvLogger(path, rows, columns).close()
            except ConfigError:
                assert path.read_bytes() == each

    trees = TREES | st.dictionaries(st.just("val/loss"), SCALARS)
    every_case(check, st.binary(), trees, st.integers(0, 5), st.integers(1, 5))


def _places(node, above=()):
    for key, item in node.items():
        yield (*above, key)
        if isinstance(item, dict):
            yield from _places(item, (*above, key))


def _written(path, content):
    path.write_bytes(content)
    return path
