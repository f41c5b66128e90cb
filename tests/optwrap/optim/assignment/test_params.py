import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from optwrap.optim import walk
from optwrap.optim.assignment.params import submodules


def names(model):
    return [param.name for param in walk(model)]


def test_names_and_order_are_those_of_named_parameters(toy_model):
    assert names(toy_model) == [name for name, _ in toy_model.named_parameters()]


def test_owner_holds_the_parameter_and_parent_holds_the_owner(toy_model):
    param = next(p for p in walk(toy_model) if p.name == "head.bn.weight")
    assert param.owner is toy_model.head.bn
    assert param.parent is toy_model.head
    assert param.tensor is toy_model.head.bn.weight


def test_parameter_of_the_root_has_no_parent():
    (weight, _) = walk(nn.Linear(1, 1))
    assert weight.name == "weight"
    assert weight.parent is None


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, checkpoint_wrapper])
def test_prefixes_of_wrapping_modules_are_dropped(wrap, toy_model):
    assert names(wrap(toy_model)) == names(toy_model)


@pytest.mark.slow
def test_prefixes_of_inner_and_nested_wrappers_are_dropped(toy_model):
    expected = names(toy_model)
    toy_model.backbone["layer0"] = checkpoint_wrapper(torch.compile(toy_model.backbone["layer0"]))
    assert names(torch.compile(nn.DataParallel(toy_model))) == expected


def test_submodules_have_plain_names_too(toy_model):
    expected = dict(toy_model.named_modules())
    toy_model.backbone["layer0"] = checkpoint_wrapper(torch.compile(toy_model.backbone["layer0"]))
    assert submodules(torch.compile(nn.DataParallel(toy_model))) == expected


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "wrap",
    [
        DistributedDataParallel,
        lambda model: torch.compile(DistributedDataParallel(model)),
        lambda model: FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu")),
        lambda model: fully_shard(model, mesh=init_device_mesh("cpu", (1,))),
    ],
    ids=["DDP", "compiled DDP", "FSDP1", "FSDP2"],
)
@pytest.mark.usefixtures("one_process")
def test_prefixes_of_data_parallel_wrappers_are_dropped(wrap, toy_model):
    expected = names(toy_model)
    owners = {param.name: type(param.owner).__name__ for param in walk(toy_model)}
    wrapped = wrap(toy_model)
    assert names(wrapped) == expected
    assert {param.name: type(param.owner).__name__ for param in walk(wrapped)} == owners


def test_a_plain_submodule_called_module_keeps_its_name():
    model = nn.Module()
    model.module = nn.Linear(1, 1)
    assert names(model) == ["module.weight", "module.bias"]


def test_tied_weights_appear_once_with_their_other_names():
    model = nn.Module()
    model.embedding, model.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
    model.head.weight = model.embedding.weight
    (param,) = walk(model)
    assert param.name == "embedding.weight"
    assert param.aliases == ("head.weight",)


def test_a_shared_module_gives_its_parameters_two_names():
    model = nn.Module()
    model.first = nn.Linear(1, 1)
    model.second = model.first
    assert [(p.name, p.aliases) for p in walk(model)] == [
        ("first.weight", ("second.weight",)),
        ("first.bias", ("second.bias",)),
    ]


def test_a_module_shared_at_every_level_is_walked_once():
    model = nn.Linear(1, 1)
    for _ in range(17):
        model = nn.ModuleDict({"first": model, "second": model})
    weight, _ = walk(model)
    assert weight.name == "first." * 17 + "weight"
    assert "second." + "first." * 16 + "weight" in weight.aliases
    assert len(submodules(model)) < 1000  # of 2 ** 18 names


def test_a_module_that_holds_its_parent_is_no_circle():
    model = nn.ModuleDict({"child": nn.Linear(1, 1)})
    model["child"].parent = model
    assert [(param.name, param.aliases) for param in walk(model)] == [("child.weight", ()), ("child.bias", ())]
    assert list(submodules(model)) == ["", "child"]


class Spares(nn.Module):
    def __init__(self, *names, inner=None):
        super().__init__()
        self.names, self.weight, self.other = names, nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.inner = inner

    def no_weight_decay(self):
        return self.names


def test_a_model_says_what_has_no_weight_decay():
    def spared(model):
        return [param.name for param in walk(model) if param.spared]

    assert spared(Spares("weight")) == ["weight"]
    assert spared(nn.DataParallel(Spares("weight"))) == ["weight"]
    assert spared(Spares("inner.*", inner=nn.Linear(1, 1))) == ["inner.weight", "inner.bias"]
    # A part speaks for itself where what holds it says nothing, and else not.
    assert spared(nn.ModuleDict({"backbone": Spares("weight")})) == ["backbone.weight"]
    assert spared(Spares("other", inner=Spares("weight"))) == ["other"]
