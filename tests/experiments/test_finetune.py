"""A language model goes on with other text, in the tokens that it knows."""

import json

import pytest
import torch

from experiments.finetune import package_descriptions

SMALL = ("max_updates=2", "eval_every=2", "task.samples=0", "device=cpu", "data.vocab_size=300")


def test_the_descriptions_of_packages_are_prose(tmp_path):
    data = package_descriptions(cache=str(tmp_path), length=32, val_share=0.2, test_share=0.2)
    assert "Metadata-Version" in data.vocabulary.decode(data.rows["train"].tokens[:200].tolist())


@pytest.mark.slow
def test_it_begins_with_the_weights_and_the_vocabulary_of_the_run(train, tmp_path):
    cache = f"data.cache={tmp_path}"
    first = train("experiment=quick/gpt_stdlib", *SMALL, cache, "data.tokenizer=bpe")
    second = train(
        "experiment=quick/finetune",
        *(*SMALL, cache, f"pretrained={first}", f"init_from={first}", f"data.tokenizer={first}"),
        "optim_wrapper.optimizer.lr=0",
    )
    weights = [torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    vocabularies = [json.loads((folder / "vocabulary.json").read_text()) for folder in (first, second)]
    assert vocabularies[0] == vocabularies[1]
