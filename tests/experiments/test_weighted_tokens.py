"""Micro-batches of unequal length: the weighted mean is the whole batch's, the mean of means is not."""

import torch

from experiments.accumulated import distance, gradient
from experiments.weighted_tokens import MeanOfMeansTask
from optwrap.text import GPT, LanguageModelTask
from optwrap.text.windows import IGNORED


def test_accumulation_is_the_whole_batch_s_gradient_only_where_tokens_count():
    torch.manual_seed(0)
    model = GPT(20, length=8, width=16, depth=1, heads=2)
    inputs, targets = torch.randint(0, 20, (2, 6, 8))
    for row, length in enumerate((8, 1, 2, 8, 3, 1)):
        targets[row, length:] = IGNORED
    whole = gradient(LanguageModelTask(model), [{"inputs": inputs, "targets": targets}])
    parts = [{"inputs": inputs[[row]], "targets": targets[[row]]} for row in range(6)]
    assert distance(gradient(LanguageModelTask(model), parts), whole) < 1e-5
    assert distance(gradient(MeanOfMeansTask(model), parts), whole) > 0.1
