"""Learning rates and weight decay of timm's models, by timm's own param groups: four models of each module."""

import warnings

import pytest

from tests.optwrap.optim.zoo import exceptions

GOALS = {  # the share of models for which it holds at least, and those for which it does not
    "scales": (0.95, exceptions.SCALES),
    "found": (0.98, exceptions.FOUND),
    "alike": (0.55, None),  # without the model's word, where timm often counts stages, or a last convolution
    "decay": (0.98, exceptions.DECAY),
    "norms": (1.0, {}),
}


def test_the_docs_list_the_models_whose_layer_decay_is_not_timms(root):
    listed = (
        (root / "docs" / "models.md")
        .read_text()
        .partition("## Layer decay of timm's models")[2]
        .partition("##")[0]
    )
    names = {
        name.strip()
        for line in listed.splitlines()[6:]
        for name in line.split("|")[1:2]
        for name in name.split(",")
    }
    assert names - {""} == set(exceptions.SCALES)


@pytest.mark.slow  # 60 s; in one test, lest each process compare the models anew
def test_what_holds_for_nearly_all_models():
    timm = pytest.importorskip("timm")
    from tests.optwrap.optim.zoo.timm_models import names, outcomes  # timm takes its time to load

    sample = names(each_module=4)
    assert len(sample) >= 300
    assert all(set(sample) & set(timm.list_models(module=module)) for module in timm.list_modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compared = list(outcomes(sample))
    for field, (share, expected) in GOALS.items():
        others = {outcome.name for outcome in compared if not getattr(outcome, field)}
        assert len(others) <= (1 - share) * len(compared), field
        if expected is not None:
            assert others == set(expected) & set(sample), field
