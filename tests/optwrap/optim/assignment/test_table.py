import csv

import torch
from torch import nn
from torchvision.models import resnet50

from optwrap.optim import Assignment, ParamwiseRules, assign, format_table, param_groups, table, walk, write_csv

BASE = {"lr": 0.1, "weight_decay": 0.01}


def assignments():
    first, second = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(()))
    return [
        Assignment("layer.weight", first, {"lr": 0.1, "weight_decay": 0.01}),
        Assignment("gain", second, {"lr": 0.1, "weight_decay": 0.0, "betas": [0.9, 0.95]}, "custom_keys['gain']"),
    ]


def test_resnet50_with_norm_decay_mult_has_two_groups():
    model = resnet50()
    groups = param_groups(assign(walk(model), BASE, ParamwiseRules(norm_decay_mult=0)))
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert sum(len(group["params"]) for group in groups) == 161
    names = {name: p for group in groups for name, p in zip(group["param_names"], group["params"], strict=True)}
    assert names.keys() == dict(model.named_parameters()).keys()
    assert all(names[name] is param for name, param in model.named_parameters())


def test_list_valued_options_merge_by_value():
    params = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    betas = [[0.9, 0.95], [0.9, 0.95], [0.9, 0.999]]
    groups = param_groups(Assignment(str(i), p, {"betas": betas[i]}) for i, p in enumerate(params))
    assert [group["param_names"] for group in groups] == [["0", "1"], ["2"]]


def test_table_has_a_row_a_parameter():
    assert table(assignments()) == [
        {"name": "layer.weight", "shape": "2x3", "lr": 0.1, "weight_decay": 0.01, "rule": "base"},
        {"name": "gain", "shape": "scalar", "lr": 0.1, "weight_decay": 0.0, "rule": "custom_keys['gain']",
         "betas": [0.9, 0.95]},
    ]  # fmt: skip


def test_formatted_table_is_aligned():
    header, *lines = format_table(assignments()).splitlines()
    assert header.split() == ["name", "shape", "lr", "weight_decay", "rule", "betas"]
    assert all(
        line.index(rule) == header.index("rule") for line, rule in zip(lines, ("base", "custom"), strict=True)
    )


def test_csv_reads_back(tmp_path):
    write_csv(assignments(), tmp_path / "param_groups.csv")
    with (tmp_path / "param_groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["layer.weight", "gain"]
    assert float(rows[1]["weight_decay"]) == 0
    assert rows[0]["betas"] == ""
