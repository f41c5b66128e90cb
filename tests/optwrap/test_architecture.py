"""Dependencies point one way: programs and experiments import the library, and each floor what lies below it."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "src" / "optwrap"

# Top to bottom. A module belongs to the room with the longest name that it begins with; rooms in one line do not
# import each other.
FLOORS = """
runs  from_mmengine
use
run
checkpoint
program
record
hooks
plan
optim.__init__
optim.named_state  optim.two_passes
optim.schedule
optim.constructors
optim.amp  optim.wrapper_dict
optim.wrapper
optim.readings
optim.averaging  optim.perturbation  optim.window  optim.matrices
optim.step
optim.parallel  models
optim.assignment  vision  text  plan.random_state
sweep.driver
sweep.callback  sweep.asked
sweep.failures
sweep.progress
sweep.job  sweep.report
sweep.search
sweep.grid
sweep.names  sweep.records  sweep.identity  sweep.__init__
config.messages
config
loggers
provenance
instantiate
pretrained_input  metrics
argument_types  hydra_versions  import_paths  interpolations
pictures
lock  files  links  errors  __init__
"""
ROOMS = {room: floor for floor, line in enumerate(FLOORS.split("\n")) for room in line.split()}
WITHOUT_TORCH = (
    "program",
    "sweep",
    "config",
    "loggers",
    "provenance",
    "instantiate",
    "pretrained_input",
    "argument_types",
    "hydra_versions",
    "import_paths",
    "interpolations",
    "pictures",
    "lock",
    "files",
    "errors",
)


def module_of(file):
    return ".".join(file.relative_to(LIBRARY).with_suffix("").parts)


MODULES = {module_of(file): file for file in LIBRARY.rglob("*.py")}


def room_of(module):
    """Return the room that a module's name begins with, the longest."""
    fits = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    assert fits, f"{module} is on no floor"
    return max(fits, key=len)


def imported_by(tree, inside_functions=True):
    """Yield each import of a module's source: dotted names, a `from` import once for each name."""
    for node in ast.walk(tree) if inside_functions else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name):
    """Return the module of the library that an imported name is, or is of; None for any other's."""
    parts = name.split(".")
    if parts[0] != "optwrap":
        return None
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[1:length])
        for candidate in (module, f"{module}.__init__".lstrip(".")):
            if candidate in MODULES:
                return candidate
    raise AssertionError(f"{name}: there is no such module")


def targets(source, inside_functions=True):
    names = imported_by(ast.parse(source), inside_functions)
    return {target for name in names if (target := within(name))}


def upward_imports(module, source):
    """Return what a module imports that does not lie below it, nor in its own room."""
    own = room_of(module)
    targets = {target for name in imported_by(ast.parse(source)) if (target := within(name))}
    return sorted(target for target in targets if room_of(target) != own and ROOMS[room_of(target)] <= ROOMS[own])


def test_a_module_imports_only_what_lies_below_it():
    upward = {module: upward_imports(module, file.read_text()) for module, file in MODULES.items()}
    assert {module: found for module, found in upward.items() if found} == {}


@pytest.mark.parametrize(
    ("module", "source", "upwards"),
    [
        ("plan.plan", "from optwrap.record.recorder import Recorder", ["record.recorder"]),
        ("optim.step.norm", "def f():\n    from optwrap.optim import OptimWrapper", ["optim.__init__"]),
        ("optim.step.norm", "from optwrap.optim.window import counts", ["optim.window.counts"]),
        ("sweep.records", "import optwrap.sweep.driver", ["sweep.driver"]),
        ("optim.constructors.multi", "from optwrap.optim.schedule import build", ["optim.schedule.build"]),
        ("config.help", "from optwrap.config import store", []),
    ],
)
def test_an_import_against_the_floors_is_found(module, source, upwards):
    assert upward_imports(module, source) == upwards


def test_no_modules_import_each_other_in_a_circle():
    # At load time: what is imported inside a function may lead back, as from a program's start to its whole.
    graph = {module: targets(file.read_text(), False) - {module} for module, file in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_no_room_has_more_than_a_dozen_modules():
    sizes = {}
    for file in LIBRARY.rglob("*.py"):
        if file.name != "__init__.py":
            sizes[file.parent] = sizes.get(file.parent, 0) + 1
    assert {folder.name: size for folder, size in sizes.items() if size > 12} == {}


def test_every_room_says_what_lives_there():
    for folder in {file.parent for file in LIBRARY.rglob("*.py")}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_the_library_imports_no_program_and_no_experiment():
    outside = {"train", "evaluate", "predict", "export", "report", "runs", "experiments", "conf", "tests"}
    for module, file in MODULES.items():
        names = {name.partition(".")[0] for name in imported_by(ast.parse(file.read_text()))}
        assert not names & outside, module


def test_what_help_and_completion_need_imports_no_torch():
    for module in (each for each in MODULES if each.startswith(WITHOUT_TORCH)):
        names = imported_by(ast.parse(MODULES[module].read_text()), inside_functions=False)
        targets = [(name.partition(".")[0], within(name)) for name in names]
        assert not [name for name, _ in targets if name in ("torch", "torchvision", "torchmetrics")], module
        others = [each for _, each in targets if each and not each.startswith((*WITHOUT_TORCH, "__init__"))]
        assert others == [], module


def test_the_command_line_answers_without_loading_torch():
    code = "import sys, train; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=LIBRARY.parents[1])
