"""Optimizer wrappers, their constructors and their schedules."""

from optwrap.optim.amp import AmpOptimWrapper
from optwrap.optim.assignment import Assignment, format_table, param_groups, table, write_csv
from optwrap.optim.build_schedule import build_schedule
from optwrap.optim.clip import ClipNorm, ClipValue
from optwrap.optim.constructors import DefaultOptimWrapperConstructor, build_optim_wrapper
from optwrap.optim.freezing import frozen
from optwrap.optim.hybrid import HybridOptimizer, HybridOptimWrapperConstructor
from optwrap.optim.layer_decay import LayerDecayOptimWrapperConstructor
from optwrap.optim.multi import MultiOptimWrapperConstructor
from optwrap.optim.named_state import load_named_options, load_named_state_dict, named_state_dict
from optwrap.optim.params import NamedParam, walk
from optwrap.optim.paramwise import ParamwiseRules
from optwrap.optim.rules import assign
from optwrap.optim.schedule import Schedule, ScheduleDict
from optwrap.optim.wrapper import OptimWrapper
from optwrap.optim.wrapper_dict import OptimWrapperDict

__all__ = [
    "AmpOptimWrapper",
    "Assignment",
    "ClipNorm",
    "ClipValue",
    "DefaultOptimWrapperConstructor",
    "HybridOptimWrapperConstructor",
    "HybridOptimizer",
    "LayerDecayOptimWrapperConstructor",
    "MultiOptimWrapperConstructor",
    "NamedParam",
    "OptimWrapper",
    "OptimWrapperDict",
    "ParamwiseRules",
    "Schedule",
    "ScheduleDict",
    "assign",
    "build_optim_wrapper",
    "build_schedule",
    "format_table",
    "frozen",
    "load_named_options",
    "load_named_state_dict",
    "named_state_dict",
    "param_groups",
    "table",
    "walk",
    "write_csv",
]
