import json
import math

import pytest
import torch
import torch.nn.functional as F

from optwrap.optim import OptimWrapper
from optwrap.text import GPT, LanguageModelTask
from optwrap.text.vocabulary import ByteVocabulary
from optwrap.text.windows import IGNORED


def model():
    torch.manual_seed(0)
    made = GPT(257, length=12, width=16, depth=1, heads=2)
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def batch(lengths, seed=0):
    """Texts of these lengths, filled up to the longest."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 257, (len(lengths), max(lengths)), generator=draw)
    targets = torch.randint(0, 256, (len(lengths), max(lengths)), generator=draw)
    for row, length in enumerate(lengths):
        targets[row, length:] = IGNORED
    return {"inputs": inputs, "targets": targets, "bytes": (targets != IGNORED).sum(dim=1)}


def rows(whole, numbers):
    return {name: value[numbers] for name, value in whole.items()}


def gradients(task, batches):
    wrapper = OptimWrapper(torch.optim.SGD(task.model.parameters(), lr=0.0), accumulative_counts=len(batches))
    kept = {}
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: p.grad.clone() for name, p in task.model.named_parameters()})
    )
    for each in batches:
        task.train_step(each, wrapper)
    return kept


def test_unequal_micro_batches_give_the_gradient_of_the_whole_batch():
    task, whole = LanguageModelTask(model()), batch([12, 1, 7, 2])
    split = gradients(task, [rows(whole, [0]), rows(whole, [1, 3]), rows(whole, [2])])
    losses = F.cross_entropy(task.model(whole["inputs"]).flatten(0, 1), whole["targets"].flatten())
    task.model.zero_grad()
    losses.backward()
    for name, parameter in task.model.named_parameters():
        torch.testing.assert_close(split[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_micro_batch_without_a_target_adds_nothing():
    task, whole = LanguageModelTask(model()), batch([5, 3])
    empty = rows(whole, [0])
    empty["targets"] = torch.full_like(empty["targets"], IGNORED)
    split, alone = gradients(task, [whole, empty]), gradients(task, [whole])
    for name in split:
        torch.testing.assert_close(split[name], alone[name])


def test_bits_per_byte_and_the_loss_are_over_all_targets_whatever_the_batches():
    task, whole = LanguageModelTask(model()), batch([12, 1, 7, 2])
    whole["bytes"] = torch.tensor([30, 2, 9, 4])  # as of a vocabulary of pairs
    with torch.no_grad():
        flat = task.model(whole["inputs"]).flatten(0, 1)
        nats = F.cross_entropy(flat, whole["targets"].flatten(), reduction="sum").item()
    for split in ([[0, 1, 2, 3]], [[0], [1, 2, 3]], [[3], [2], [1], [0]]):
        task.metrics.reset()
        for numbers in split:
            task.eval_step(rows(whole, numbers))
        found = task.metrics.compute()
        assert found["loss"].item() == pytest.approx(nats / 22)
        assert found["bits_per_byte"].item() == pytest.approx(nats / 45 / math.log(2))


def test_what_a_step_returns_counts_the_tokens():
    task = LanguageModelTask(model())
    wrapper = OptimWrapper(torch.optim.SGD(task.model.parameters(), lr=0.1))
    assert int(task.train_step(batch([4, 2, 9]), wrapper)["tokens"]) == 15


def test_texts_are_written_and_begin_with_the_prompt(tmp_path):
    task = LanguageModelTask(model(), ByteVocabulary(), samples=3, sample_tokens=20, prompt="def ")
    (file,) = task.write_artifacts(tmp_path, 70)
    assert file == tmp_path / "samples" / "000070.txt"
    texts = file.read_text().split("\n" + "=" * 72 + "\n")
    assert len(texts) == 3
    assert all(text.startswith("def ") for text in texts)
    before = file.read_bytes()
    task.write_artifacts(tmp_path, 70)
    assert file.read_bytes() == before
    assert LanguageModelTask(model()).write_artifacts(tmp_path, 80) == []


def test_what_others_take_is_asked_for_once_and_written(tmp_path):
    asked = []

    def references():
        asked.append(1)
        return {"zlib": 1.9}

    task = LanguageModelTask(model(), samples=0, references=references)
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        task.write_artifacts(folder, 1)
    assert json.loads((tmp_path / "first" / "references.json").read_text()) == {"bits_per_byte": {"zlib": 1.9}}
    assert len(asked) == 1
