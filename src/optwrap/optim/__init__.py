"""Optimizer wrappers, their constructors and their schedules."""

from optwrap.optim.amp import AmpOptimWrapper
from optwrap.optim.assignment import Assignment, format_table, param_groups, table, write_csv
from optwrap.optim.clip import ClipNorm, ClipValue
from optwrap.optim.constructors import DefaultOptimWrapperConstructor, build_optim_wrapper
from optwrap.optim.params import NamedParam, walk
from optwrap.optim.rules import ParamwiseRules, assign
from optwrap.optim.schedule import Schedule, build_schedule
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

__all__ = [
    "AmpOptimWrapper",
    "Assignment",
    "ClipNorm",
    "ClipValue",
    "DefaultOptimWrapperConstructor",
    "NamedParam",
    "OptimWrapper",
    "OptimWrapperDict",
    "ParamwiseRules",
    "Schedule",
    "assign",
    "build_optim_wrapper",
    "build_schedule",
    "format_table",
    "param_groups",
    "table",
    "walk",
    "write_csv",
]
