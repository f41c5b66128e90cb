import pytest
import torch
from torch import nn

from optwrap.errors import ConfigError
from optwrap.optim import build_optim_wrapper
from optwrap.text import GPT, generate
from optwrap.text.gpt import Place


def model(**options):
    """A small one, in which no layer is zero."""
    torch.manual_seed(0)
    made = GPT(**({"vocab_size": 11, "length": 16, "width": 16, "depth": 2, "heads": 2} | options)).eval()
    for parameter in made.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return made


def tokens(*shape):
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mlp", ["squared_relu", "swiglu"])
def test_a_position_sees_itself_and_those_before_it_alone(mlp):
    gpt, text = model(mlp=mlp), tokens(1, 12)
    changed = text.clone()
    changed[0, 7] = (text[0, 7] + 1) % 11
    before, after = gpt(text), gpt(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert bool((before[:, 7:] != after[:, 7:]).any(dim=-1).all())


def test_only_the_distance_of_positions_counts():
    gpt, text = model(depth=1), tokens(1, 5)
    cache = gpt.new_cache(1)
    cache.used = 6
    documents = torch.ones(1, 5, dtype=torch.long)
    rotation = (gpt.cosine[6:11], gpt.sine[6:11])
    shifted = gpt.head(gpt.norm(gpt.blocks[0](gpt.embedding(text), Place(rotation))))
    torch.testing.assert_close(shifted, gpt(text, documents))


def test_documents_in_one_row_are_as_documents_alone():
    gpt = model()
    first, second = tokens(1, 5), tokens(1, 4) % 7
    numbers = torch.tensor([[1] * 5 + [2] * 4 + [0]])
    row = torch.cat([first, second, torch.zeros(1, 1, dtype=torch.long)], dim=1)
    packed = gpt(row, numbers)
    torch.testing.assert_close(packed[:, :5], gpt(first))
    torch.testing.assert_close(packed[:, 5:9], gpt(second))
    assert bool((gpt(row)[:, 5:9] != packed[:, 5:9]).any())


def test_generation_with_what_it_keeps_is_that_from_the_whole_text_each_time():
    gpt, prompt = model(), tokens(2, 3)
    text = prompt
    for _ in range(13):
        text = torch.cat([text, gpt(text)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(generate(gpt, prompt, 13, temperature=0), text[:, 3:])


@pytest.mark.parametrize("parts", [[5, 1, 4], [1, 9], [3, 3, 4]])
def test_a_text_in_parts_is_the_text_at_once(parts):
    gpt, text = model(), tokens(2, 10)
    cache = gpt.new_cache(2)
    in_parts = torch.cat([gpt(part, cache=cache) for part in text.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(in_parts, gpt(text))
    with pytest.raises(ValueError, match="takes no documents"):
        gpt(text, torch.ones_like(text), cache=gpt.new_cache(2))


def test_generation_goes_on_beyond_the_model_s_length_and_leaves_its_mode():
    gpt = model().train()
    made = generate(gpt, tokens(2, 3), 40, generator=torch.Generator().manual_seed(0))
    again = generate(gpt, tokens(2, 3), 40, generator=torch.Generator().manual_seed(0))
    assert made.shape == (2, 40)
    assert torch.equal(made, again)
    assert gpt.training


def test_a_tied_head_is_the_embedding():
    gpt = GPT(11, length=8, width=8, depth=1, heads=2, tied=True)
    assert gpt.head.weight is gpt.embedding.weight


def test_a_new_model_gives_each_token_about_the_same_chance():
    gpt = GPT(300, length=8, width=64, depth=4, heads=4)
    losses = nn.functional.cross_entropy(gpt(tokens(4, 8)).flatten(0, 1), tokens(4, 8).flatten())
    assert losses.item() == pytest.approx(torch.tensor(300.0).log().item(), rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, "model.width=10: it must be a multiple of twice model.heads=2"),
        ({"mlp": "gelu"}, "model.mlp=gelu: there are squared_relu and swiglu"),
    ],
)
def test_what_cannot_be_built_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        model(**options)


def rates(**cfg):
    wrapper = build_optim_wrapper(model(), cfg)
    return {each.name: each for each in wrapper.assignments}


def test_layer_decay_muon_and_weight_decay_find_their_parameters_without_a_hint():
    adamw = {"_target_": "torch.optim.AdamW", "lr": 1.0, "weight_decay": 0.1}
    decayed = rates(
        optimizer=adamw,
        constructor={"_target_": "optwrap.optim.LayerDecayOptimWrapperConstructor"},
        paramwise_cfg={"decay_factor": 0.5, "decay_by": "block"},
    )
    found = {name: each.options["lr"] for name, each in decayed.items()}
    assert found["head.weight"] == found["norm.weight"] == 1.0
    assert found["blocks.1.mlp.up.weight"] == 0.5
    assert found["blocks.0.attention.query.weight"] == 0.25
    assert found["embedding.weight"] == 0.125
    flat = rates(optimizer=adamw, paramwise_cfg={"norm_decay_mult": 0.0})
    assert {name for name, each in flat.items() if not each.options["weight_decay"]} == {
        name for name in flat if "norm" in name
    }


def test_it_compiles_as_one_graph():
    gpt, text = model(), tokens(2, 8)
    found = torch._dynamo.explain(gpt)(text)
    assert (found.graph_count, found.graph_break_count) == (1, 0)
    torch._dynamo.reset()
