"""The simple noise scale against its formula, by hand."""

import pytest
import torch
from torch.optim import SGD

from optwrap.errors import ConfigError
from optwrap.hooks import GradientNoise
from optwrap.optim import AmpOptimWrapper, OptimWrapper
from tests.optwrap.hooks.runs import ToyRun


def square(model, loss):
    return sum(grad.double().square().sum().item() for grad in torch.autograd.grad(loss, list(model.parameters())))


def by_hand(model, batches, loss_of, counts, smoothing):
    """Yield the trace of the covariance and the squared norm of the gradient: McCandlish et al., appendix A.1."""
    optimizer, samples = SGD(model.parameters(), lr=0.1), len(batches[0][0])
    noises, gradients = [], []
    for start in range(0, len(batches), counts):
        window = batches[start : start + counts]
        small = sum(square(model, loss_of(model, batch)) for batch in window) / len(window)
        mean = sum(loss_of(model, batch) for batch in window) / len(window)
        large = square(model, sum(loss_of(model, batch) for batch in window) / len(window))
        few, many = samples, samples * len(window)
        gradients.append((many * large - few * small) / (many - few))
        noises.append((small - large) / (1 / few - 1 / many))
        weights = [smoothing ** (len(noises) - 1 - i) for i in range(len(noises))]
        noise, gradient = (
            sum(w * x for w, x in zip(weights, xs, strict=True)) / sum(weights) for xs in (noises, gradients)
        )
        yield noise, gradient
        mean.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("wrapper", ["plain", "clipped", "scaled"])
def test_it_is_what_the_formula_says(wrapper, twins, batches, loss_of, tmp_path):
    model, twin = twins
    optimizer = SGD(model.parameters(), lr=0.1)
    made = {
        "plain": lambda: OptimWrapper(optimizer, 4),
        "clipped": lambda: OptimWrapper(optimizer, 4, {"max_norm": 1e3}),
        "scaled": lambda: AmpOptimWrapper(optimizer, 4, loss_scale=1024.0, dtype="bfloat16"),
    }[wrapper]()
    rows = ToyRun(model, made, batches, tmp_path)(noise=GradientNoise(smoothing=0.5))
    expected = list(by_hand(twin, batches, loss_of, 4, 0.5))
    tolerance = 0.1 if wrapper == "scaled" else 1e-4  # bfloat16
    for row, (noise, gradient) in zip(rows, expected, strict=True):
        assert row["noise/noise"] == pytest.approx(noise, rel=tolerance)
        assert row["noise/gradient"] == pytest.approx(gradient, rel=tolerance, abs=tolerance)
        ratio = noise / gradient
        assert (row["noise/scale"] is None) == (ratio < 0)
        if row["noise/scale"] is not None:
            assert row["noise/scale"] == pytest.approx(ratio, rel=max(tolerance, 1e-3) * 3)


def test_only_updates_with_a_row_are_measured(twins, batches, tmp_path):
    model, _ = twins
    run = ToyRun(model, OptimWrapper(SGD(model.parameters(), lr=0.1), 2), batches, tmp_path, log_every=2)
    assert [sorted(row) for row in run(noise=GradientNoise())] == [
        ["noise/gradient", "noise/noise", "noise/scale"],
        ["noise/gradient", "noise/noise", "noise/scale"],
    ]


@pytest.mark.parametrize(
    ("counts", "clip", "weighted", "message"),
    [
        (1, None, False, "hooks.noise: it compares the gradients of micro-batches with that of an update"),
        (2, {"clip_value": 0.1}, False, "hooks.noise: optim_wrapper.clip_grad hides the norm"),
        (2, {"max_norm": 1.0, "norm_type": 1.0}, False, "hooks.noise: optim_wrapper.clip_grad hides the norm"),
        (2, None, True, "hooks.noise: it takes each micro-batch for the same number of samples"),
    ],
)
def test_where_it_could_not_be_right_is_an_error(counts, clip, weighted, message, twins, batches, tmp_path):
    model, _ = twins
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), counts, clip)
    with pytest.raises(ConfigError) as error:
        ToyRun(model, wrapper, batches, tmp_path, weighted=weighted)(noise=GradientNoise())
    assert message in str(error.value)
