import pytest
from torch import nn

from optwrap.optim import walk
from optwrap.optim.assignment.layers.words import group, told_exponents

NAMES = ["stem.w", "stages.0.blocks.0.w", "stages.1.down.w", "stages.1.blocks.0.w", "norm.w", "head.w"]
PATTERNS = {
    "stem": r"^stem",
    "unused": None,
    "blocks": [
        (r"^stages\.(\d+)\.down", (0,)),
        (r"^stages\.(\d+)\.blocks\.(\d+)", None),
        (r"^norm", (99999,)),
    ],
}


def test_patterns_capture_ordinals():
    assert group(NAMES, PATTERNS) == dict(zip(NAMES, [0, 1, 2, 2, 2, 3], strict=True))


@pytest.mark.slow  # timm takes its time to load
def test_groups_are_those_of_timm():
    manipulate = pytest.importorskip("timm.models._manipulate")
    theirs = manipulate.group_with_matcher(((name, None) for name in NAMES), PATTERNS, reverse=True)
    assert group(NAMES, PATTERNS) == theirs


def test_a_function_may_give_a_number_or_several():
    numbers = {"a": 1, "b": (2, 0), "c": float("inf")}
    assert group(list("cab"), numbers.get) == {"a": 0, "b": 1, "c": 2}


class Told(nn.ModuleDict):
    def __init__(self):
        super().__init__({name: nn.Linear(1, 1, bias=False) for name in ("stem", "block1", "block2", "head")})


class Timm(Told):
    def group_matcher(self, coarse=False):
        return {"stem": "^stem", "blocks": "^block" if coarse else r"^block(\d+)"}


class MMPretrain(Told):
    def get_layer_depth(self, name):
        return list(self).index(name.partition(".")[0]), len(self)


class Refuses(Told):
    def group_matcher(self, coarse=False):
        raise NotImplementedError


def test_models_that_speak_for_themselves():
    def told(model, by="block"):
        exponents, method = told_exponents(model, walk(model), by)
        return list(exponents.values()), method

    assert told(Timm()) == told(nn.DataParallel(Timm())) == ([3, 2, 1, 0], "group_matcher")
    assert told(Timm(), "stage") == ([2, 1, 1, 0], "group_matcher")
    assert told(MMPretrain()) == ([3, 2, 1, 0], "get_layer_depth")
    assert told(Refuses()) == told(Told()) == ([], "")
