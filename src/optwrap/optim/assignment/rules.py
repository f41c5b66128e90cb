"""Rules that give each parameter its learning rate, weight decay and other options, as `paramwise_cfg` says."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.kinds import is_bias, is_depthwise, is_norm, is_offset_conv, is_undecayed
from optwrap.optim.assignment.params import NamedParam
from optwrap.optim.assignment.paramwise import KEY, MULTIPLIERS, ParamwiseRules, is_number
from optwrap.optim.assignment.table import Assignment

logger = logging.getLogger(__name__)

_Decision = tuple[str | None, str | None, str | None]  # a custom key, or the fields that rule lr and weight decay


def assign(params: Iterable[NamedParam], base: Mapping[str, Any], rules: ParamwiseRules) -> list[Assignment]:
    """Return the options of every trainable parameter: pure, and linear in the number of parameters.

    `base` holds the optimizer's own options (lr, weight_decay, ...). The longest custom key inside a name
    decides alone; without one the type rules apply: weight decay by norm, else bias, else depthwise conv,
    else one-dimensional; lr by deform-conv offset, else bias. `no_decay_1d` spares what the model's own
    `no_weight_decay()` names, and what none of these rules decides. `lr_mult`/`decay_mult` multiply the outcome.

    Raises:
        ConfigError: a custom key matches nothing, or sets an option that the optimizer does not have; a decay
            factor has nothing to multiply; a parameter has two names and `bypass_duplicate` is off.
    """
    params = list(params)
    trainable = [param for param in params if param.tensor.requires_grad]
    _check_options(rules, base)
    if rules:
        check_duplicates(params, rules.bypass_duplicate)
    keys = sorted(rules.custom_keys, key=lambda key: (-len(key), key))
    if keys:
        check_matches(params, rules)
    lr_rules = lr_rules_of(rules)
    decay_rules = decay_rules_of(rules) if "weight_decay" in base else []
    outcomes: dict[_Decision, tuple[Mapping[str, Any], str]] = {}
    assignments = []
    for param in trainable:
        custom = _longest(keys, param.name) if keys else None
        lr_rule = _first(lr_rules, param) if lr_rules and not custom else None
        decay_rule = _first(decay_rules, param) if decay_rules and not custom else None
        decision = (custom, lr_rule, decay_rule)
        if decision not in outcomes:
            outcomes[decision] = _outcome(decision, base, rules)
        options, rule = outcomes[decision]
        assignments.append(Assignment(param.name, param.tensor, options, rule, param.aliases))
    return assignments


def check_matches(params: Sequence[NamedParam], rules: ParamwiseRules) -> None:
    """Look for custom keys that match no trainable parameter.

    Raises:
        ConfigError: there is one (with `strict: false` it is a warning).
    """
    trainable = [param for param in params if param.tensor.requires_grad]
    missed = []
    for key in rules.custom_keys:
        if any(_matches(key, param.name) for param in trainable):
            continue
        is_frozen = any(_matches(key, param.name) for param in params)
        why = "matches only frozen parameters" if is_frozen else "matches no parameter"
        parts = {part for p in trainable for part in _prefixes(p.name)}
        message = f"{KEY}.custom_keys: {key!r} {why}.{did_you_mean(key, sorted(parts))}"
        if rules.strict:
            raise ConfigError(
                f"{message} Remove it, correct it, or set {KEY}.strict=false for a config that several models "
                "share."
            )
        missed.append(message)
    if missed:
        logger.warning(
            "%s", " ".join([missed[0], *(each.removeprefix(f"{KEY}.custom_keys: ") for each in missed[1:])])
        )


def check_duplicates(params: Iterable[NamedParam], bypass: bool = False) -> None:
    """Look for trainable parameters with two names; with `bypass`, warn of the names that are left out.

    Raises:
        ConfigError: there is one, without `bypass`.
    """
    for param in params:
        if param.aliases and param.tensor.requires_grad:
            if bypass:
                logger.warning("%s is left out: %s decides.", ", ".join(param.aliases), param.name)
                continue
            raise ConfigError(
                f"Parameter {param.name!r} is also {param.aliases[0]!r} (tied weights), so two rules could "
                f"decide. Set {KEY}.bypass_duplicate=true to let the first name decide."
            )


def _outcome(decision: _Decision, base: Mapping[str, Any], rules: ParamwiseRules) -> tuple[Mapping[str, Any], str]:
    """Return the options that follow from what decided, and its name."""
    custom, *fields_of_type = decision
    decided = [name for name in fields_of_type if name]
    options = {name: base[name] for name in ("lr", "weight_decay") if name in base}
    factors = [(_option(name), getattr(rules, name) if name.endswith("_mult") else 0.0) for name in decided]
    if custom is not None:
        decided = [f"custom_keys[{custom!r}]"]
        own = rules.custom_keys[custom]
        options |= {name: value for name, value in own.items() if name not in MULTIPLIERS}
        factors = [(MULTIPLIERS[name], own[name]) for name in MULTIPLIERS if own.get(name) is not None]
    for name, option in MULTIPLIERS.items():
        if (factor := getattr(rules, name)) is not None:
            decided.append(name)
            factors.append((option, factor))
    for option, factor in factors:
        options[option] = options[option] * factor
    return options, " + ".join(decided) or "base"


def _is_flat(param: NamedParam) -> bool:
    return param.tensor.ndim == 1


_Rule = tuple[str, Callable[[NamedParam], bool]]


def lr_rules_of(rules: ParamwiseRules) -> list[_Rule]:
    """Return the type rules on the lr that are set, by name, the first that applies first."""
    bias = partial(is_bias, norm_classes=rules.norm_classes or ())
    return _that_are_set([("dcn_offset_lr_mult", is_offset_conv), ("bias_lr_mult", bias)], rules)


def decay_rules_of(rules: ParamwiseRules) -> list[_Rule]:
    """Return the type rules on the weight decay that are set, by name, the first that applies first."""
    classes = rules.norm_classes or ()
    table: list[_Rule] = [
        ("norm_decay_mult", partial(is_norm, classes=classes)),
        ("bias_decay_mult", partial(is_bias, norm_classes=classes)),
        ("dwconv_decay_mult", is_depthwise),
        ("flat_decay_mult", _is_flat),
    ]
    found = _that_are_set(table, rules)
    if rules.no_decay_1d:
        undecayed = partial(is_undecayed, norm_classes=classes)
        found = [("no_weight_decay()", _is_spared), *found, ("no_decay_1d", undecayed)]
    return found


def _is_spared(param: NamedParam) -> bool:
    return param.spared


def _that_are_set(table: Sequence[_Rule], rules: ParamwiseRules) -> list[_Rule]:
    return [(name, applies) for name, applies in table if getattr(rules, name) is not None]


def _first(table: Sequence[_Rule], param: NamedParam) -> str | None:
    for name, applies in table:
        if applies(param):
            return name
    return None


def _longest(keys: Sequence[str], name: str) -> str | None:
    for key in keys:
        if _matches(key, name):
            return key
    return None


def _matches(key: str, name: str) -> bool:
    """Whether a key is part of a name; `.token` is one of the model's own `token` too, as in MMEngine."""
    return key in name or ("." not in name and key in f".{name}")


def _option(factor: str) -> str:
    return "lr" if factor.endswith("lr_mult") else "weight_decay"


def _check_options(rules: ParamwiseRules, base: Mapping[str, Any]) -> None:
    named = [(f"{KEY}.{name}", name, _option(name), value) for name, value in rules.factors.items()]
    for key, options in rules.custom_keys.items():
        where = f"{KEY}.custom_keys.{key}"
        own = {name: value for name, value in options.items() if not _is_tag(name, base, rules, where)}
        named += [(f"{where}.{name}", name, MULTIPLIERS.get(name, name), value) for name, value in own.items()]
    for where, name, option, value in named:
        if option not in base:
            have = sorted({*MULTIPLIERS, *base})
            raise ConfigError(
                f"{where}={value!r}: the optimizer has no option {option!r}.{did_you_mean(name, have)} "
                f"Options here: {', '.join(have)}."
            )
        if is_number(base[option]) and value is not None and not (is_number(value) and value >= 0):
            raise ConfigError(f"{where}={value!r}: it must be a number from 0 up, as the optimizer's {option} is.")
        if option == "weight_decay" and option != name and base[option] == 0:
            logger.warning("%s=%r multiplies a weight decay of 0: it has no effect.", where, value)


def _is_tag(name: str, base: Mapping[str, Any], rules: ParamwiseRules, where: str) -> bool:
    """Whether an option is no one's that is known: it goes into the param groups, for who reads it there."""
    if rules.strict or name in base or name in MULTIPLIERS:
        return False
    logger.warning("%s.%s: the optimizer has no such option; it goes into the param group as it is.", where, name)
    return True


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)] + parts
