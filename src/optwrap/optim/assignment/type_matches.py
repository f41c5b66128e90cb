"""Whether the type rules of `paramwise_cfg` match what they are meant for."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from optwrap.errors import ConfigError, did_you_mean
from optwrap.optim.assignment.kinds import is_norm
from optwrap.optim.assignment.params import NamedParam
from optwrap.optim.assignment.paramwise import KEY, ParamwiseRules
from optwrap.optim.assignment.rules import decay_rules_of, lr_rules_of
from optwrap.optim.assignment.table import Assignment

logger = logging.getLogger(__name__)

_WORDS = {  # in the names of classes and parameters that a rule is likely to be meant for
    "norm_decay_mult": ("norm", "scale", "gamma"),
    "bias_lr_mult": ("bias", "beta"),
    "bias_decay_mult": ("bias", "beta"),
    "dwconv_decay_mult": ("depthwise", "dwconv", "dw_conv"),
    "dcn_offset_lr_mult": ("offset",),
    "flat_decay_mult": (),
    "no_decay_1d": (),
}


def check_types(
    params: Sequence[NamedParam], rules: ParamwiseRules, assignments: Sequence[Assignment] = ()
) -> None:
    """Look for type rules that match no trainable parameter, and for norm layers that are not known.

    Args:
        params: those of the model.
        rules: the rules.
        assignments: what came of them, if that is known: a rule that decided once needs no second look.

    Raises:
        ConfigError: a rule matches nothing, though something has a name like it (with `strict: false`, and where
            nothing has, it is a warning); or no module is of a class in `norm_classes`.
    """
    _check_classes(params, rules)
    trainable = [param for param in params if param.tensor.requires_grad]
    decided = " + ".join({each.rule for each in assignments}).split(" + ")
    for name, applies in (*lr_rules_of(rules), *decay_rules_of(rules)):
        if name not in _WORDS or name in decided or any(map(applies, trainable)):
            continue
        is_frozen = any(map(applies, params))
        alike = [] if is_frozen else [param for param in trainable if _is_alike(param, _WORDS[name])]
        what = "only frozen parameters" if is_frozen else "no parameter"
        message = f"{KEY}.{name}={getattr(rules, name)!r} matches {what}."
        if alike and rules.strict:
            raise ConfigError(
                f"{message} Alike are {_listed(alike)}: name them in {KEY}.{_remedy(name)}, remove the rule, or "
                f"set {KEY}.strict=false for a config that several models share."
            )
        logger.warning("%s%s", message, f" Alike are {_listed(alike)}." if alike else "")
    if rules.norm_decay_mult is not None:
        _warn_of_unknown_norms(trainable, rules)
    elif rules.bias_decay_mult is not None:
        _say_norm_biases(trainable, rules, assignments)


def _remedy(rule: str) -> str:
    return f"norm_classes or {KEY}.custom_keys" if rule == "norm_decay_mult" else "custom_keys"


def _check_classes(params: Sequence[NamedParam], rules: ParamwiseRules) -> None:
    owners = (
        {cls.__name__ for param in params for cls in type(param.owner).__mro__} if rules.norm_classes else set()
    )
    for name in rules.norm_classes or ():
        if name in owners:
            continue
        known = sorted({type(param.owner).__name__ for param in params})
        message = (
            f"{KEY}.norm_classes: {name!r} is the class of no module with parameters.{did_you_mean(name, known)} "
            f"Remove it, correct it, or set {KEY}.strict=false for a config that several models share."
        )
        if rules.strict:
            raise ConfigError(message)
        logger.warning(message)


def _warn_of_unknown_norms(trainable: Sequence[NamedParam], rules: ParamwiseRules) -> None:
    known_norm = partial(is_norm, classes=rules.norm_classes or ())
    named = [param for param in trainable if "norm" in type(param.owner).__name__.lower()]
    unknown = [
        param
        for param in named
        if not known_norm(param) and not any(key in param.name for key in rules.custom_keys)
    ]
    known = sum(map(known_norm, trainable))
    if unknown and known:
        logger.warning(
            "%s.norm_decay_mult=%r matches %d parameters, but not %s: name them in %s.norm_classes "
            "or .custom_keys.",
            *(KEY, rules.norm_decay_mult, known, _listed(unknown), KEY),
        )


def _say_norm_biases(
    trainable: Sequence[NamedParam], rules: ParamwiseRules, assignments: Sequence[Assignment]
) -> None:
    """Say that the biases of norm layers are none, where neither norms nor custom keys decide for them."""
    decided = {each.name for each in assignments if each.rule != "base"}
    norm = partial(is_norm, classes=rules.norm_classes or ())
    left = [p for p in trainable if p.attribute == "bias" and p.name not in decided and norm(p)]
    if left:
        logger.info(
            "%s.bias_decay_mult=%r is not for the biases of norm layers, such as %r (%d in all): norm_decay_mult "
            "or custom_keys decide for them.",
            *(KEY, rules.bias_decay_mult, left[0].name, len(left)),
        )


def _is_alike(param: NamedParam, words: Sequence[str]) -> bool:
    text = f"{type(param.owner).__name__} {param.attribute}".lower()
    return any(word in text for word in words)


def _listed(params: Sequence[NamedParam]) -> str:
    """Return the classes that own parameters, with how many, and one of their names."""
    counts = Counter(type(param.owner).__name__ for param in params)
    names = {type(param.owner).__name__: param.name for param in reversed(params)}
    shown = [f"{count} of {cls} ({names[cls]!r}{', ...' if count > 1 else ''})" for cls, count in counts.items()]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} classes more" if len(shown) > 4 else "")
