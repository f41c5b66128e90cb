import functools
import platform

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW

from optwrap.errors import ConfigError
from optwrap.optim import AmpOptimWrapper, OptimWrapper
from optwrap.optim.step import finish
from optwrap.optim.step.one_pass import OnePass

SGD_ARGS = {"lr": 0.1, "momentum": 0.9}


def train(model, batches, loss_of, blow_up=(), fused=None, **kwargs):
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), fused=fused, **SGD_ARGS), **kwargs)
    optim_wrapper.initialize_count_status(model, 0, len(batches))
    for i, batch in enumerate(batches):
        with optim_wrapper.optim_context(model):
            loss = loss_of(model, batch)
        optim_wrapper.update_params(loss * (1e38 if i in blow_up else 1))
    return optim_wrapper


def train_by_hand(model, batches, loss_of, dtype, scaler, counts=1, max_norm=None, blow_up=()):
    optimizer = SGD(model.parameters(), **SGD_ARGS)
    for start in range(0, len(batches), counts):
        window = batches[start : start + counts]
        for i, batch in enumerate(window, start):
            with torch.autocast("cpu", dtype):
                loss = loss_of(model, batch)
            scaler.scale(loss * (1e38 if i in blow_up else 1) / len(window)).backward()
        scaler.unscale_(optimizer)
        if max_norm is not None:
            clip_grad_norm_(model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@pytest.mark.parametrize("counts", [1, 3])
@pytest.mark.parametrize("max_norm", [None, 0.1])
@pytest.mark.parametrize("fused", [None, False])
def test_bf16_equals_plain_pytorch(fused, counts, max_norm, twins, batches, loss_of, assert_equal, assert_close):
    model, expected = twins
    clip_grad = None if max_norm is None else {"max_norm": max_norm}
    optim_wrapper = train(model, batches, loss_of, fused=fused, accumulative_counts=counts, clip_grad=clip_grad)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    train_by_hand(expected, batches, loss_of, torch.bfloat16, scaler, counts, max_norm)
    assert optim_wrapper.loss_scaler is None
    if fused is False and max_norm is None:
        assert_equal(model, expected)
    else:  # a bfloat16 forward pass magnifies a last bit
        torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("counts", [1, 3])
@pytest.mark.parametrize("max_norm", [None, 0.1])
@pytest.mark.parametrize("fused", [None, False])
def test_fp16_with_an_overflow_equals_plain_pytorch(
    fused, counts, max_norm, twins, batches, loss_of, assert_equal
):
    model, expected = twins
    clip_grad = None if max_norm is None else {"max_norm": max_norm}
    optim_wrapper = train(
        model, batches, loss_of, {0, 4}, fused, dtype="float16", accumulative_counts=counts, clip_grad=clip_grad
    )
    scaler = torch.amp.GradScaler("cpu")
    train_by_hand(expected, batches, loss_of, torch.float16, scaler, counts, max_norm, {0, 4})
    assert optim_wrapper.skipped_steps == 2
    assert optim_wrapper.updates == (8 if counts == 1 else 3) - 2
    assert optim_wrapper.loss_scaler.get_scale() == scaler.get_scale() == 65536 / 4
    if fused is False and max_norm is None:
        assert_equal(model, expected)
    else:  # a float16 forward pass magnifies a last bit
        torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-3, atol=1e-4)


def test_forward_runs_in_the_compute_dtype_and_weights_stay_float32(twins, batches):
    model, _ = twins
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype=torch.float16)
    with optim_wrapper.optim_context(model):
        assert model(batches[0][0]).dtype == torch.float16
    assert model(batches[0][0]).dtype == model[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("kwargs", "scaling"),
    [
        ({}, False),
        ({"dtype": "bfloat16"}, False),
        ({"dtype": torch.float16}, True),
        ({"dtype": "torch.float16"}, True),
        ({"dtype": "bfloat16", "loss_scale": 8}, True),
        ({"dtype": "bfloat16", "loss_scale": {"init_scale": 8.0}}, True),
    ],
)
def test_loss_scaling_is_on_for_fp16_or_where_a_scale_is_given(kwargs, scaling):
    optim_wrapper = AmpOptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.1), **kwargs)
    assert ("loss_scaler" in optim_wrapper.state_dict()) is scaling


def test_a_static_scale_never_moves(twins, batches, loss_of):
    optim_wrapper = train(twins[0], batches, loss_of, blow_up={2}, loss_scale=512, dtype="float16")
    assert optim_wrapper.state_dict()["loss_scaler"]["scale"] == 512
    assert optim_wrapper.skipped_steps == 1
    optim_wrapper.load_state_dict(AmpOptimWrapper(optim_wrapper.optimizer, dtype="float16").state_dict())
    assert optim_wrapper.state_dict()["loss_scaler"]["scale"] == 512


def test_a_dict_gives_gradscalers_arguments(twins, batches, loss_of):
    loss_scale = {"init_scale": 4.0, "growth_interval": 2, "growth_factor": 3.0}
    optim_wrapper = train(twins[0], batches, loss_of, dtype="float16", loss_scale=loss_scale)
    assert optim_wrapper.state_dict()["loss_scaler"]["scale"] == 4 * 3**4
    assert loss_scale == {"init_scale": 4.0, "growth_interval": 2, "growth_factor": 3.0}


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_fused_kernels_with_an_overflow_in_the_first_step_train_as_plain_ones(optimizer, twins, batches, loss_of):
    # Handed to the fused SGD kernel, such a step leaves momentum buffers of uninitialised memory.
    results = []
    for model, fused in zip(twins, (True, False), strict=True):
        kwargs = {"momentum": 0.9} if optimizer is SGD else {}
        optim_wrapper = AmpOptimWrapper(
            optimizer(model.parameters(), lr=0.01, fused=fused, **kwargs), dtype="float16"
        )
        for i, batch in enumerate(batches):
            with optim_wrapper.optim_context(model):
                loss = loss_of(model, batch)
            optim_wrapper.update_params(loss * (1e38 if i == 0 else 1))
        assert optim_wrapper.skipped_steps == 1
        results.append(model.state_dict())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_state_round_trips_with_the_scale_and_leaves_the_argument_alone(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = train(model, batches, loss_of, blow_up={0}, dtype="float16")
    state = optim_wrapper.state_dict()
    other = AmpOptimWrapper(SGD(model.parameters(), **SGD_ARGS), dtype="float16")
    other.load_state_dict(state)
    assert state["loss_scaler"]["scale"] == other.state_dict()["loss_scaler"]["scale"] == 32768


def test_states_pass_between_plain_and_mixed_precision(twins, batches, loss_of, caplog):
    model, _ = twins
    amp = train(model, batches, loss_of, dtype="float16")
    plain = OptimWrapper(SGD(model.parameters(), **SGD_ARGS))
    plain.load_state_dict(amp.state_dict())
    assert "loss_scaler" not in plain.state_dict()
    amp.load_state_dict(plain.state_dict())
    assert "no loss_scaler" in caplog.text


def test_an_update_without_gradients_is_no_overflow(twins):
    optim_wrapper = AmpOptimWrapper(SGD(twins[0].parameters(), lr=0.1), dtype="float16")
    optim_wrapper.step()
    assert optim_wrapper.skipped_steps == 0


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"loss_scale": "static"}, "loss_scale='static'"),
        ({"loss_scale": 0}, "loss_scale=0"),
        ({"loss_scale": True}, "loss_scale=True"),
        ({"loss_scale": {"init_scal": 2}}, "'init_scale'"),
        ({"device_type": "abacus"}, "device_type='abacus'"),
        ({"dtype": "float16", "clip_grad": {"max_norm": 1, "error_if_nonfinite": True}}, "error_if_nonfinite"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(kwargs, said):
    with pytest.raises(ConfigError, match=said):
        AmpOptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.1), **kwargs)


def test_a_model_moved_after_the_wrapper_was_built_is_an_error():
    model = nn.Linear(1, 1)
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), device_type="cuda", dtype="bfloat16")
    with pytest.raises(ConfigError, match=r"model.to\(device\)"), optim_wrapper.optim_context(model):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_computes_in_fp16_with_loss_scaling_by_default(twins, batches, loss_of):
    model = twins[0].cuda()
    on_device = [(inputs.cuda(), target.cuda()) for inputs, target in batches]
    optim_wrapper = train(model, on_device, loss_of, blow_up={3}, clip_grad={"max_norm": 1.0})
    assert optim_wrapper.dtype == torch.float16
    assert optim_wrapper.skipped_steps == 1
    assert optim_wrapper.last_grad_norm.is_cuda


SCALED = {"dtype": "float16", "loss_scale": {"init_scale": 1024.0}}
KINDS = {
    "plain": (OptimWrapper, {}),
    "bf16": (AmpOptimWrapper, {"dtype": "bfloat16"}),
    "fp16": (AmpOptimWrapper, SCALED),
    "static": (AmpOptimWrapper, {"dtype": "float16", "loss_scale": 512}),
}


@pytest.mark.parametrize("saved_by", KINDS)
@pytest.mark.parametrize("loaded_by", KINDS)
def test_a_window_saved_by_one_kind_of_wrapper_goes_on_in_another(saved_by, loaded_by):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def wrap(kind):
        wrapper, kwargs = KINDS[kind]
        return wrapper(SGD(model.parameters(), lr=1.0), 2, **kwargs)

    first = wrap(saved_by)
    first.update_params(model(torch.ones(1, 1)).sum())
    state = first.state_dict()
    first.zero_grad()
    second = wrap(loaded_by)
    second.load_state_dict(state)
    second.update_params(model(torch.ones(1, 1)).sum())
    assert model.weight.item() == pytest.approx(-1)


class Calling(SGD):
    """An optimizer whose step calls its parent's, so that torch runs step hooks twice."""

    def step(self, closure=None):
        return super().step(closure)


def test_an_optimizer_that_calls_its_parents_step_counts_once(twins, batches, loss_of):
    SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    optim_wrapper = AmpOptimWrapper(Calling(twins[0].parameters(), lr=0.1), **SCALED)
    for batch in batches[:3]:
        optim_wrapper.update_params(loss_of(twins[0], batch))
    assert (optim_wrapper.updates, optim_wrapper.skipped_steps) == (3, 0)


def test_after_a_step_that_raised_training_can_go_on(twins, batches, loss_of):
    model, _ = twins
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), **SCALED)
    with pytest.raises(TypeError):
        optim_wrapper.update_params(loss_of(model, batches[0]), step_kwargs={"nonsense": 1})
    optim_wrapper.zero_grad()
    optim_wrapper.update_params(loss_of(model, batches[1]))
    assert optim_wrapper.updates == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_the_cache_of_autocast_can_be_switched_off(enabled, twins):
    optim_wrapper = AmpOptimWrapper(SGD(twins[0].parameters(), lr=0.1), cache_enabled=enabled)
    with optim_wrapper.optim_context(twins[0]):
        assert torch.is_autocast_cache_enabled() is enabled


def test_gradients_that_are_unscaled_already_are_an_error_and_the_next_update_works():
    weight = nn.Parameter(torch.ones(3))
    wrapper = AmpOptimWrapper(SGD([weight], lr=0.1), dtype="float16")
    wrapper.backward(wrapper.scale_loss(weight.sum()))
    wrapper.loss_scaler.unscale_(wrapper.optimizer)
    with pytest.raises(ConfigError, match="unscale_"):
        wrapper.step()
    wrapper.zero_grad()
    wrapper.update_params(weight.sum())
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.9))


def test_another_scaler_may_take_the_place_of_the_wrappers(twins, batches, loss_of, assert_close):
    model, twin = twins
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16", loss_scale=2.0)
    wrapper.loss_scaler = GradScaler("cpu", init_scale=8.0, growth_interval=1)
    optimizer, scaler = SGD(twin.parameters(), lr=0.1), GradScaler("cpu", init_scale=8.0, growth_interval=1)
    for batch in batches[:3]:
        wrapper.update_params(loss_of(model, batch))
        scaler.scale(loss_of(twin, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert_close(model, twin)
    assert wrapper.loss_scaler.get_scale() == scaler.get_scale() == 64.0


@pytest.mark.parametrize("scaler", [None, GradScaler("cpu", enabled=False)])
def test_without_a_scaler_nothing_is_scaled(scaler):
    weight = nn.Parameter(torch.ones(3))
    wrapper = AmpOptimWrapper(SGD([weight], lr=0.1), dtype="float16")
    wrapper.loss_scaler = scaler
    assert wrapper.loss_scaler is None
    wrapper.backward(wrapper.scale_loss(weight.sum()))
    torch.testing.assert_close(weight.grad, torch.ones(3))


def test_the_scale_stays_with_another_optimizer():
    weight = nn.Parameter(torch.ones(3))
    wrapper = AmpOptimWrapper(SGD([weight], lr=0.1), dtype="float16", loss_scale=4.0)
    wrapper.optimizer = SGD([weight], lr=0.5)
    wrapper.update_params(weight.sum())
    assert wrapper.loss_scaler.get_scale() == 4.0
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.5))
    with pytest.raises(ConfigError, match="float16"):
        wrapper.optimizer = SGD([nn.Parameter(torch.ones(3, dtype=torch.float16))], lr=0.5)


@pytest.mark.parametrize("dtype", ["float32", torch.float32])
def test_float32_is_mixed_precision_switched_off(dtype, twins):
    model, _ = twins
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16), wrapper.optim_context(model):
        assert not torch.is_autocast_enabled("cpu")
        assert model(torch.ones(1, 4)).dtype == torch.float32
    assert wrapper.loss_scaler is None


def test_parameters_on_the_meta_device_need_no_device_type():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    assert wrapper.device_type == ("cpu" if accelerator is None else accelerator.type)
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 2, device="meta")).is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_is_of_no_concern(dtype):
    weight = nn.Parameter(torch.ones(3))
    wrapper = AmpOptimWrapper(SGD([weight], lr=0.1), clip_grad={"max_norm": 1.0}, dtype="float16")
    torch.set_default_dtype(dtype)
    try:
        for _ in range(3):
            wrapper.update_params(weight.sum())
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(weight.detach(), torch.full((3,), 1 - 0.3 / 3**0.5))


@pytest.mark.parametrize("then", [float("nan"), 1.0])
@pytest.mark.parametrize("where", ["host", "device", "plain loop"])
def test_a_scale_halved_to_nothing_skips_on_and_says_so_once(where, then, monkeypatch, caplog):
    if where == "device":
        monkeypatch.setattr(finish, "OnePass", functools.partial(OnePass, on_host=False))
    weight = nn.Parameter(torch.ones(3))
    fused = False if where == "plain loop" else None
    wrapper = AmpOptimWrapper(SGD([weight], lr=0.1, fused=fused), clip_grad={"max_norm": 1.0}, dtype="float16")
    scaler = torch.amp.GradScaler("cpu")
    for factor in [float("nan")] * 180 + [then] * 5:  # torch's scale is 0 after 165
        wrapper.update_params(weight.sum() * factor)
        scaler.scale(weight)
        scaler._per_optimizer_states[0]["found_inf_per_device"] = {weight.device: torch.ones(())}
        scaler.update()
        assert wrapper.loss_scaler.get_scale() == scaler.get_scale()
    assert wrapper.loss_scaler.get_scale() == 0
    assert (wrapper.updates, wrapper.skipped_steps) == (0, 185)
    assert torch.equal(weight.detach(), torch.ones(3))
    said = [record.message.partition(":")[0] for record in caplog.records]
    assert [each for each in said if "in a row" in each] == ["40 steps in a row were skipped"]
    assert "optim_wrapper.loss_scale" in caplog.text
    assert "optim_wrapper.dtype=bfloat16" in caplog.text


def test_a_window_saved_at_a_scale_of_nothing_goes_on_in_a_plain_wrapper():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    first = AmpOptimWrapper(SGD(model.parameters(), lr=1.0), 2, dtype="float16")
    first.loss_scaler.scale(torch.ones(()))
    first.loss_scaler.update(0.0)
    first.update_params(model(torch.ones(1, 1)).sum())
    second = OptimWrapper(SGD(model.parameters(), lr=1.0), 2)
    second.load_state_dict({name: value for name, value in first.state_dict().items() if name != "loss_scaler"})
    second.update_params(model(torch.ones(1, 1)).sum())
    assert model.weight.item() == -0.5


def test_float16_weights_under_loss_scaling_are_an_error_that_names_the_remedy():
    model = nn.Linear(2, 1).half()
    with pytest.raises(ConfigError, match=r"optim_wrapper\.loss_scale: .*float16.*without model\.half"):
        AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16")
    model = nn.Linear(2, 1)
    optim_wrapper = AmpOptimWrapper(SGD(model.parameters(), lr=0.1), dtype="float16")
    model.half()
    with pytest.raises(ConfigError, match=r"optim_wrapper\.loss_scale: .*float16.*without model\.half"):
        optim_wrapper.update_params(model(torch.ones(1, 2).half()).sum())


@pytest.mark.parametrize(
    ("capability", "machine", "dtype", "told"),
    [
        ("AVX2", "x86_64", "bfloat16", 1),
        ("AVX2", "x86_64", "float16", 1),
        ("AVX2", "x86_64", "float32", 0),
        ("AVX512", "x86_64", "bfloat16", 0),
        ("DEFAULT", "aarch64", "bfloat16", 0),
    ],
)
def test_a_cpu_that_is_slow_in_half_precision_is_told_of_once(
    capability, machine, dtype, told, monkeypatch, caplog
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    model = nn.Linear(2, 2)
    AmpOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), dtype=dtype)
    assert caplog.text.count(f"has no instructions for {dtype}") == told
