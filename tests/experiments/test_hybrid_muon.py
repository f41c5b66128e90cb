import csv
import json
import math

import pytest
import torch

QUICK = "experiment=quick/hybrid_muon"


def rules(folder):
    with (folder / "param_groups.csv").open(newline="") as file:
        return {row["name"]: (row["rule"].partition(":")[0], float(row["lr"])) for row in csv.DictReader(file)}


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_muon_gets_the_matrices_of_the_blocks_and_adamw_all_else(train):
    table = rules(train(QUICK))
    muon = {name for name, (optimizer, _) in table.items() if optimizer == "Muon"}
    parts = ("qkv", "projection", "mlp.0", "mlp.2")
    assert muon == {f"blocks.{block}.{part}.weight" for block in (0, 1) for part in parts}
    assert {optimizer for name, (optimizer, _) in table.items() if name not in muon} == {"AdamW"}
    assert {lr for optimizer, lr in table.values() if optimizer == "Muon"} == {0.02}
    assert {lr for optimizer, lr in table.values() if optimizer == "AdamW"} == {3e-3}


@pytest.mark.slow
def test_both_optimizers_make_the_same_number_of_updates_on_the_same_model(train):
    hybrid, adamw = train(QUICK), train(QUICK, "optim_wrapper=adamw")
    assert {optimizer for optimizer, _ in rules(adamw).values()} == {"base"}
    assert result(hybrid)["updates"] == result(adamw)["updates"] == 6
    assert rules(hybrid).keys() == rules(adamw).keys()


@pytest.mark.slow
@pytest.mark.parametrize("optim_wrapper", ["hybrid_muon", "adamw"])
def test_it_learns(train, optim_wrapper):
    folder = train(QUICK, f"optim_wrapper={optim_wrapper}", "max_updates=40", "eval_every=40")
    assert result(folder)["val/loss"] < 2.2 < math.log(10)  # which is what guessing gets


@pytest.mark.slow
def test_hidden_matrices_move_by_muon(train):
    """The same run without an lr for the rest moves hidden matrices only."""
    arguments = ("optim_wrapper.optimizer.lr=0", "optim_wrapper.optimizer.weight_decay=0")
    short = torch.load(train(QUICK, *arguments, "max_updates=2") / "checkpoint.pt", weights_only=True)["model"]
    longer = torch.load(train(QUICK, *arguments, "max_updates=6") / "checkpoint.pt", weights_only=True)["model"]
    moved = {name for name in short if not torch.equal(short[name], longer[name])}
    assert moved == {name for name in short if name.startswith("blocks.") and short[name].ndim == 2}
