import pytest
import torch
from torch import nn

from experiments.muon import Muon, orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def gradients(shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(5)]


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_it_steps_as_torchs_does_up_to_the_digits_of_bfloat16(shape, nesterov):
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov}
    for kind, weight in ((Muon, ours), (torch.optim.Muon, theirs)):
        optimizer = kind([weight], **options)
        for gradient in gradients(shape):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - 1).norm()
    assert (ours - theirs).norm() < 0.01 * moved


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_singular_values_come_near_1_and_singular_vectors_stay(shape):
    matrix = gradients(shape)[0]
    made = orthogonal(matrix, COEFFICIENTS, steps=5, eps=1e-7)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ made @ v.T
    assert ((values.diag() > 0.3) & (values.diag() < 1.3)).all()
    torch.testing.assert_close(values, values.diag().diag(), rtol=0, atol=1e-4)


def test_another_adjustment_of_the_lr_is_refused():
    with pytest.raises(ValueError, match="adjust_lr_fn=match_rms_adamw: this Muon has the original alone"):
        Muon([nn.Parameter(torch.ones(2, 2))], adjust_lr_fn="match_rms_adamw")


@pytest.mark.slow
def test_it_takes_the_place_of_torchs_in_a_run(train):
    folder = train("experiment=quick/gpt_muon", "optim_wrapper.hidden_optimizer._target_=experiments.muon.Muon")
    assert "Muon holds" in (folder / "train.log").read_text()
    assert "Muon" in (folder / "param_groups.csv").read_text()
