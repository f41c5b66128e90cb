"""Scheduler lists that no config of the corpus has, and the curves of some lists by hand."""

import math

from tests.optwrap.from_mmengine.shortened import EPOCHS


def case(*param_scheduler, by_epoch=True, length=EPOCHS):
    return {"param_scheduler": list(param_scheduler), "by_epoch": by_epoch, "length": length}


def of_updates(kind, **given):
    return {"type": kind, "by_epoch": False, **given}


WARM = of_updates("LinearLR", start_factor=0.001, end=20)
OTHERS = [  # what no config of the corpus has
    case(
        {"type": "ExponentialLR", "gamma": 0.9, "end": 9}, {"type": "StepMomentum", "step_size": 4, "gamma": 0.9}
    ),
    case(of_updates("OneCycleLR", eta_max=0.5), by_epoch=False, length=60),
    case(
        of_updates("OneCycleLR", eta_max=0.5, three_phase=True, anneal_strategy="linear", div_factor=5.0),
        by_epoch=False,
        length=60,
    ),
    case({"type": "OneCycleLR", "eta_max": 0.5, "total_steps": 10, "end": 10, "convert_to_iter_based": True}),
    case(WARM, {"type": "CosineAnnealingLR", "eta_min": 0.01}),
    case(WARM, {"type": "PolyLR", "eta_min": 0.01, "power": 0.9, "convert_to_iter_based": True}),
    case(WARM, of_updates("CosineAnnealingLR", eta_min=0.01, begin=8, T_max=60)),
    case({"type": "CosineAnnealingLR", "T_max": 5, "eta_min": 0.02}),
    case(
        {"type": "CosineAnnealingLR", "eta_min_ratio": 0.1, "end": 9},
        {"type": "LinearMomentum", "end_factor": 0.5, "end": 8},
    ),
    case(
        {"type": "ConstantLR", "end": 3},
        {"type": "MultiStepLR", "begin": 5, "milestones": [0, 2, 2], "gamma": 0.5},
    ),
    case(
        {"type": "PolyMomentum", "eta_min": 0.5, "power": 2.0, "begin": 2, "end": 9},
        {"type": "QuadraticWarmupMomentum", "end": 2},
    ),
    case({"type": "LinearLR", "end": 30}, {"type": "PolyLR", "eta_min": 0.001, "begin": 4, "end": 40}),
    case(
        {
            "type": "StepParamScheduler",
            "param_name": "weight_decay",
            "step_size": 3,
            "end": 6,
            "convert_to_iter_based": True,
        }
    ),
    case(
        {
            "type": "CosineRestartLR",
            "periods": [3, 6],
            "restart_weights": [1, 0.5],
            "eta_min_ratio": 0.1,
            "end": 10,
            "convert_to_iter_based": True,
        }
    ),
    case({"type": "LinearLR", "start_factor": 0.5}, of_updates("PolyLR", end=40), by_epoch=False, length=60),
    case(
        {"type": "LinearLR", "end": 1},
        {"type": "PolyLR", "begin": 1, "end": 2},
        {"type": "ConstantLR", "begin": 2, "end": 3},
    ),
]


def rises(start, steps):
    return lambda k: start + (1 - start) * min(k, steps) / steps


def falls(floor, steps):
    return lambda own, k: floor + (own - floor) * (1 + math.cos(math.pi * min(k, steps) / steps)) / 2


N, E = 24, 4
BY_HAND = {
    "steps by epoch, multiplied by a warm-up by iteration": (
        case(
            of_updates("LinearLR", start_factor=0.1, end=5),
            {"type": "MultiStepLR", "end": 6, "milestones": [3, 5]},
            length=6,
        ),
        lambda own, k: own * rises(0.1, 4)(k) * 0.1 ** ((k >= 3 * E) + (k >= 5 * E)),
    ),
    "steps that another length of the run leaves behind": (
        case({"type": "MultiStepLR", "end": 4, "milestones": [3, 5, 9]}, length=6),
        lambda own, k: own * 0.1 ** (k >= 3 * E),
    ),
    "milestones that count from begin": (
        case(
            of_updates("ConstantLR", factor=0.5, end=4),
            of_updates("MultiStepLR", begin=4, milestones=[4, 12], gamma=0.5),
            length=6,
        ),
        lambda own, k: own * (0.5 if k < 3 else 1) * 0.5 ** ((k >= 8) + (k >= 16)),
    ),
    "polynomial": (
        case(of_updates("PolyLR", eta_min=0.01, power=0.9), by_epoch=False, length=N),
        lambda own, k: 0.01 + (own - 0.01) * (1 - k / (N - 1)) ** 0.9,
    ),
    "polynomial by a ratio": (
        case(
            of_updates("PolyLRRatio", eta_min_ratio=0.1, power=2.0, end=9),
            of_updates("ConstantLR", factor=1, begin=9),
            by_epoch=False,
            length=N,
        ),
        lambda own, k: own * (0.1 + 0.9 * (1 - min(k, 8) / 8) ** 2),
    ),
    "converted warm-up, cosine by epoch": (
        case(
            {"type": "LinearLR", "start_factor": 0.1, "end": 2, "convert_to_iter_based": True},
            {"type": "CosineAnnealingLR", "begin": 2, "eta_min": 0.01},
            length=6,
        ),
        lambda own, k: own * rises(0.1, 7)(k) if k < 8 else falls(0.01, 4)(own, k // E - 2),
    ),
    "cosine after a gap": (
        case(
            of_updates("LinearLR", start_factor=0.1, end=3),
            {"type": "CosineAnnealingLR", "begin": 2, "end": 6, "T_max": 4, "convert_to_iter_based": True},
            length=6,
        ),
        lambda own, k: own * rises(0.1, 2)(k) if k < 8 else falls(0, 16)(own, k - 8),
    ),
    "quadratic warm-up, a constant end": (
        case(
            {"type": "mmdet.QuadraticWarmupLR", "end": 1, "convert_to_iter_based": True},
            {
                "type": "CosineAnnealingLR",
                "begin": 1,
                "end": 5,
                "T_max": 5,
                "eta_min": 0.01,
                "convert_to_iter_based": True,
            },
            {"type": "ConstantLR", "begin": 5, "end": 6, "factor": 1},
            length=6,
        ),
        lambda own, k: own * ((k + 1) / 4) ** 2 if k < 4 else falls(0.01, 20)(own, min(k, 19) - 4),
    ),
    "restarts": (
        case(
            of_updates("CosineRestartLR", periods=[10, 14], restart_weights=[1, 0.5], eta_min=0.0),
            by_epoch=False,
            length=N,
        ),
        lambda own, k: falls(0, 10)(own, k) if k < 10 else falls(0, 14)(own * 0.5, k - 10),
    ),
    "steps of epochs": (
        case({"type": "StepLR", "step_size": 2, "gamma": 0.9}, length=6),
        lambda own, k: own * 0.9 ** (k // 8),
    ),
    "exponential": (
        case({"type": "ExponentialLR", "gamma": 0.9, "end": 4}, length=6),
        lambda own, k: own * 0.9 ** min(k // E, 3),
    ),
    "cut off by the run's end": (
        case(of_updates("LinearLR", start_factor=0.5, end=48), by_epoch=False, length=N),
        lambda own, k: own * rises(0.5, 47)(k),
    ),
}
