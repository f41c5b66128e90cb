"""Some models of each of timm's modules, beside timm's own param groups."""

import re

import pytest

pytest.importorskip("timm")

# By the first letters of a model's name, and why.
OTHERWISE = {
    "caformer|convformer|poolformer": "timm's pattern counts several blocks as one layer",
    "csatv2|mobilenetv5|pit_": "timm's pattern does not tell the blocks apart as they are",
    "edgenext|xcit|resmlp": "gains of shape (1, 1, C) or (C, 1, 1) decay by timm, and are vectors here",
}
TWO_WAYS = {"coat_(?!lite)|hrnet": "branches run side by side"}
GAINS = {"dm_nfnet|resmlp": "gains of other shapes than (C,)"}


def left_out(outcomes, field, known):
    """Return the models that are otherwise for no known reason."""
    pattern = re.compile("|".join(known))
    return [each.name for each in outcomes if not getattr(each, field) and not pattern.match(each.name)]


@pytest.mark.slow
def test_models_of_every_module_get_what_timm_gives_them():
    from tests.optwrap.optim.zoo.timm_models import names, outcomes

    found = list(outcomes(names(4)))
    assert len(found) > 300
    assert left_out(found, "scales", OTHERWISE) == []
    assert left_out(found, "found", TWO_WAYS) == []
    assert left_out(found, "decay", GAINS) == []
    assert [each.name for each in found if not each.norms] == []
    for field, share in {"scales": 0.93, "found": 0.98, "decay": 0.98}.items():
        assert sum(bool(getattr(each, field)) for each in found) >= share * len(found), field
