"""Layers and norms of transformers' architectures, by their code and by transformers' own Trainer (10 s)."""

import pytest

from optwrap.errors import ConfigError
from optwrap.optim import ParamwiseRules, assign, walk
from optwrap.optim.assignment.blocks import find_blocks
from optwrap.optim.assignment.layers.place import layer_of_each
from tests.optwrap.optim.zoo.transformers_models import (
    LAYERS,
    PARALLEL,
    build,
    decayed_by_trainer,
    expected_blocks,
    is_within,
)

pytestmark = pytest.mark.slow

# Where Trainer goes by a part of a name: a table of biases is none, and a norm may be called otherwise.
ONLY_WE_DECAY = ("relative_attention_bias.weight", "relative_position_bias_table")
ONLY_TRAINER_DECAYS = ("normalization.weight", "norm_f.weight")


@pytest.fixture(autouse=True)
def _transformers():
    pytest.importorskip("transformers")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_norms_are_those_of_the_architecture(name):
    stacks, stem, head = LAYERS[name]
    model = build(name)
    params = walk(model)
    blocks = find_blocks(model)
    assert blocks == expected_blocks(stacks)
    ids = layer_of_each(params, blocks)
    assert {ids[each] for each in ids if is_within(each, stem)} == {0}
    assert {ids[each] for each in ids if is_within(each, head or "")} == ({len(blocks) + 1} if head else set())

    rules = ParamwiseRules(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True)
    assignments = assign(params, {"lr": 1.0, "weight_decay": 1.0}, rules)
    ours = {each.name for each in assignments if each.options["weight_decay"]}
    theirs = decayed_by_trainer(model) & {each.name for each in assignments}
    assert {each for each in ours - theirs if not each.endswith(ONLY_WE_DECAY)} == set()
    assert {each for each in theirs - ours if not each.endswith(ONLY_TRAINER_DECAYS)} == set()


@pytest.mark.parametrize("name", PARALLEL)
def test_all_towers_are_listed_and_none_are_chained(name):
    with pytest.raises(ConfigError, match="not those of one stack") as refusal:
        find_blocks(build(name))
    assert [stack for stack in PARALLEL[name] if f"'{stack}.*'" not in str(refusal.value)] == []
