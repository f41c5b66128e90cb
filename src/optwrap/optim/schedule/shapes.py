"""The shapes of a schedule's parts: each a number for each step of the part, in a closed form."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from optwrap.errors import ConfigError
from optwrap.optim.schedule.arguments import Amount, Arguments
from optwrap.optim.schedule.lengths import Updates

_NONE = Amount("factor", 0.0)


def _one(_: int) -> float:
    return 1.0


@dataclass(frozen=True)
class Shape:
    """How a value goes on from the one that a part begins with: `floor + (value * weight - floor) * factor`.

    Attributes:
        factor: by step from 0; it says how far above the floor the value is.
        floor: what factor 0 means.
        weight: by step, what multiplies the value that the part begins with.
        peak: takes the place of the value that the part begins with.
    """

    factor: Callable[[int], float]
    floor: Amount = _NONE
    weight: Callable[[int], float] = field(default=_one)
    peak: Amount | None = None


def linear(given: Arguments) -> Shape:
    """Go on a straight line from `start_factor` to `end_factor`."""
    start, end = given.number("start_factor", 1 / 3), given.number("end_factor", 1.0)
    length = given.length()
    return Shape(lambda step: start + (end - start) * _progress(step, length))


def quadratic(given: Arguments) -> Shape:
    """Rise as the square of the updates so far, to factor 1. Source: YOLOX, Ge et al., 2021."""
    whole = given.length() + 1
    return Shape(lambda step: min(float((step + 1) / whole), 1.0) ** 2)


def constant(given: Arguments) -> Shape:
    """Multiply by `factor` up to the end."""
    factor, length = given.number("factor", 1.0), given.length()
    return Shape(lambda step: factor if step < max(length, 1) else 1.0)


def exponential(given: Arguments) -> Shape:
    """Multiply by `gamma` at each step."""
    gamma = given.number("gamma", None)
    return Shape(lambda step: gamma**step)


def step(given: Arguments) -> Shape:
    """Multiply by `gamma` after each `step_size`."""
    size, gamma = given.steps("step_size"), given.number("gamma", 0.1)
    return Shape(lambda step: gamma ** math.floor(step / size))


def multi_step(given: Arguments) -> Shape:
    """Multiply by `gamma` at each of the `milestones`, which count from the run's begin."""
    milestones, gamma = given.places("milestones"), given.number("gamma", 0.1)
    return Shape(lambda step: gamma ** sum(each <= step for each in milestones))


def poly(given: Arguments) -> Shape:
    """Fall to the floor as (1 - progress) ** `power`."""
    power, length, floor = given.number("power", 1.0), given.length(), given.amount("min", 0.0)
    return Shape(lambda step: (1 - _progress(step, length)) ** power, floor)


def cosine(given: Arguments) -> Shape:
    """Fall to the floor along a half cosine. Source: Loshchilov and Hutter, SGDR, 2017."""
    length, floor = given.length(), given.amount("min", 0.0)
    return Shape(lambda step: _half_cosine(step, length), floor)


def cosine_restarts(given: Arguments) -> Shape:
    """Fall along half cosines of `periods` one after another, each from the value times its own of `weights`."""
    periods, floor = given.steps_in_list("periods"), given.amount("min", 0.0)
    weights = given.numbers("weights", [1.0] * len(periods))
    if len(weights) != len(periods) or not periods:
        raise ConfigError(f"{given.key}: {len(periods)} periods have {len(weights)} weights. Give one for each.")
    begins = [0, *itertools.accumulate(periods)]
    last = math.ceil(begins[-1]) - 1  # whose value stays

    def period_of(step: int) -> int:
        return sum(begin <= step for begin in begins[1:])

    def factor(step: int) -> float:
        step = min(step, last)
        index = period_of(step)
        return _half_cosine(step - begins[index], periods[index])

    return Shape(factor, floor, lambda step: weights[period_of(min(step, last))])


def one_cycle(given: Arguments) -> Shape:
    """Rise to the peak and fall to almost 0, as torch's OneCycleLR. Source: Smith and Topin, 2018."""
    rise = given.number("pct_start", 0.3, high=1.0)
    cosines = given.choice("anneal_strategy", ["cos", "linear"]) == "cos"
    start = 1 / given.number("div_factor", 25.0, low=1.0)
    end = start / given.number("final_div_factor", 1e4, low=1.0)
    three = given.choice("three_phase", [False, True])
    peak = given.amount("max", 1.0)
    last = float(given.length(given.span.steps - (not given.span.endpoint)))
    up = rise * (last + 1) - 1
    knots = [(0.0, start), (up, 1.0), *([(2 * up, start)] if three else []), (last, end)]
    phases = list(itertools.pairwise(knots))

    def factor(step: int) -> float:
        at = min(step, last)
        (begin, first), (until, second) = next((each for each in phases if at <= each[1][0]), phases[-1])
        progress = 1.0 if until == begin else (at - begin) / (until - begin)
        if cosines:
            return second + (first - second) / 2 * (1 + math.cos(math.pi * progress))
        return (second - first) * progress + first

    return Shape(factor, peak=peak)


SHAPES: dict[str, Callable[[Arguments], Shape]] = {
    "linear": linear,
    "quadratic": quadratic,
    "constant": constant,
    "exponential": exponential,
    "step": step,
    "multi_step": multi_step,
    "poly": poly,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "one_cycle": one_cycle,
}


def _progress(step: Updates, length: Updates) -> float:
    return min(float(step / length), 1.0) if length else 0.0


def _half_cosine(step: Updates, length: Updates) -> float:
    return 0.5 * (1 + math.cos(math.pi * float(step / length))) if length else 1.0
