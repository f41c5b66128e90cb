"""Optimizer wrappers, their constructors and their schedules."""

from optwrap.optim.amp import AmpOptimWrapper
from optwrap.optim.assignment.params import NamedParam, walk
from optwrap.optim.assignment.paramwise import ParamwiseRules
from optwrap.optim.assignment.rules import assign
from optwrap.optim.assignment.table import Assignment, format_table, param_groups, table, write_csv
from optwrap.optim.constructors.default import DefaultOptimWrapperConstructor, build_optim_wrapper
from optwrap.optim.constructors.hybrid import HybridOptimizer, HybridOptimWrapperConstructor
from optwrap.optim.constructors.layer_decay import LayerDecayOptimWrapperConstructor
from optwrap.optim.constructors.multi import MultiOptimWrapperConstructor
from optwrap.optim.named_state import load_named_options, load_named_state_dict, named_state_dict
from optwrap.optim.parallel.freezing import frozen
from optwrap.optim.schedule.build import Metrics, build_schedule
from optwrap.optim.schedule.schedule import Schedule, ScheduleDict
from optwrap.optim.schedule.schedulers import multi_step, poly, warmup_cosine
from optwrap.optim.step.clip import ClipNorm, ClipValue
from optwrap.optim.two_passes import in_passes
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
    "Metrics",
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
    "in_passes",
    "load_named_options",
    "load_named_state_dict",
    "multi_step",
    "named_state_dict",
    "param_groups",
    "poly",
    "table",
    "walk",
    "warmup_cosine",
    "write_csv",
]
