"""The pages' commands are understood, their examples print what they say, and what they name exists."""

import logging
import re
import sys
import tomllib
from functools import cache

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

import export
import predict
from optwrap.config import store
from optwrap.config.command_line import CommandLine
from optwrap.config.messages.explain import check_complete
from optwrap.hydra_versions import VERSION_BASE
from optwrap.program.own_targets import fit_own_targets, with_new_keys
from tests.optwrap.cases import one_in
from tests.pages import COMMANDS, IS_TEMPLATE, ROOT, TEXTS, anchors, blocks, commands, commands_of, inline, section

pytestmark = pytest.mark.skipif(not IS_TEMPLATE, reason="own README")
WRITTEN_BY_READER = r"spirals|scaled|crops|NAME|conf/local/|lines"  # files that a page tells how to write
PROGRAMS = {"train", "torchrun", "evaluate", "predict", "export", "report", "runs", "benchmarks", "pytest", "pip"}
PLUGINS = {  # what is installed for an extra alone
    "hydra/launcher=joblib": "hydra_plugins.hydra_joblib_launcher",
    "hydra/launcher=slurm": "hydra_plugins.hydra_submitit_launcher",
    "hydra/sweeper=search": "optuna",
}


FIRST = {words for _, words in commands_of(TEXTS.get("README.md", ""))}  # those that a newcomer types


def of(program):
    return pytest.mark.parametrize("words", commands(program), ids=" ".join)


def of_train():
    """Those of the README and one in eight of the others; the rest among the slow tests."""
    typed = commands("train")
    others = one_in(8, [(words,) for words in typed if words not in FIRST])
    return pytest.mark.parametrize("words", [*(words for words in typed if words in FIRST), *others], ids=" ".join)


@pytest.fixture(scope="module")
def composed():
    """Compose a list of overrides, once each, and check that no value is missing."""
    store.register()

    @cache
    def composed(*overrides):
        cfg = compose("config", with_new_keys(list(overrides)))
        fit_own_targets(cfg, list(overrides))
        check_complete(cfg, CommandLine(ROOT / "conf", "config", overrides))

    with initialize_config_dir(str(ROOT / "conf"), **VERSION_BASE):
        yield composed


def points(overrides):
    """Return lists of overrides in which each value of each sweep stands once.

    >>> points(["epochs=2", "model=a,b", "seed=range(3)"])
    [['epochs=2', 'model=a', 'seed=0'], ['epochs=2', 'model=b', 'seed=0']]
    """
    columns = []
    for typed, each in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True):
        if not each.is_sweep_override():
            columns.append([typed])
        elif each.is_interval_sweep():
            columns.append([f"{each.get_key_element()}={each.value().start}"])
        else:
            values = [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
            columns.append(values[:1] if each.key_or_group == "seed" else values)  # any number is one
    length = max((len(column) for column in columns), default=1)
    return [[column[index % len(column)] for column in columns] for index in range(length)]


def test_the_pages_have_commands_of_every_program_and_of_no_other():
    assert {program for program, _ in COMMANDS} == PROGRAMS


def check_train(words, composed):
    args, unknown = get_args_parser().parse_known_args(words)
    assert not [word for word in unknown if word.startswith("-")]
    if args.help or args.shell_completion:
        return
    for override in args.overrides:
        if override in PLUGINS:
            pytest.importorskip(PLUGINS[override])
    parsed = OverridesParser.create().parse_overrides(args.overrides)
    assert args.multirun or not any(each.is_sweep_override() for each in parsed), "a sweep needs -m"
    for point in points(args.overrides):
        composed(*point)


@of_train()
def test_a_command_of_train_composes(words, composed):
    check_train(words, composed)


@of("torchrun")
def test_torchrun_takes_its_options_and_the_rest_composes(words, composed):
    from torch.distributed.run import get_args_parser as torchrun_parser

    args = torchrun_parser().parse_args(words)
    assert args.training_script == "train.py"
    check_train(args.training_script_args, composed)


@of("evaluate")
def test_evaluate_is_given_a_run_and_overrides_that_compose(words, composed):
    from optwrap.program import split_arguments

    defaults = {"run": None, "split": "test", "checkpoint": "last", "allow": "experiments"}
    own, overrides = split_arguments(words, defaults)
    assert own["run"].startswith("outputs/")
    assert own["split"] in ("val", "test")
    assert own["checkpoint"] in ("last", "best")
    composed(*overrides)


@of("predict")
def test_predict_is_given_a_run_and_overrides_that_compose(words, composed):
    from optwrap.program import split_arguments

    own, overrides = split_arguments(words, predict.OWN)
    assert own["run"].startswith("outputs/")
    assert own["split"] in ("train", "val", "test")
    composed(*overrides)


@of("export")
def test_export_is_given_a_run_and_formats_that_exist(words, composed):
    from optwrap.program import split_arguments
    from optwrap.use.export.formats import FORMATS

    own, overrides = split_arguments(words, export.OWN)
    assert own["run"].startswith("outputs/")
    assert set(own["to"].split(",")) <= FORMATS.keys()
    composed(*overrides)


@of("report")
def test_report_is_given_a_folder_and_metrics(words):
    assert [word.partition("=")[0] for word in words[1:]] in ([], ["metrics"], ["baseline"])
    assert words[0].startswith("outputs/")


@of("runs")
def test_runs_has_the_command(words):
    from optwrap.runs.commands import COMMANDS

    assert words[0] in COMMANDS


@of("benchmarks")
def test_the_benchmarks_take_their_arguments(words, monkeypatch):
    from tests.optwrap.benchmarks import __main__ as program

    class Understood(Exception):  # noqa: N818 -- no error
        pass

    def understood(*_):
        raise Understood

    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.set_num_threads", understood)
    with pytest.raises(Understood):
        program.main()


@of("pytest")
def test_pytest_is_given_options_and_files_that_exist(words, request):
    for word in words:
        if word.startswith("-"):
            request.config.getoption(word.partition("=")[0])
        elif "/" in word:
            assert_named(word)


@of("pip")
def test_an_extra_that_is_installed_exists(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.fullmatch(r"\.(?:\[([\w,]+)\])?", words[0])[1]
    assert set((named or "test").split(",")) <= set(extras)


def assert_named(name, path=""):
    """The file of `FILE`, `FILE::test` or `::test` (of `path`) exists, and so does the test."""
    file, _, test = name.partition("::")
    assert (ROOT / (file or path)).exists(), name
    assert not test or f"def {test}(" in (ROOT / (file or path)).read_text(), name


@pytest.mark.parametrize("page", TEXTS)
def test_every_file_and_test_that_is_named_exists(page):
    path = ""
    for name in inline(TEXTS[page]):
        found = re.fullmatch(
            r"((?:src|tests|conf|docs|experiments|\.ci|\.github)/[\w/.]+|\w+\.(?:py|toml|md))?(?:::\w+)?", name
        )
        if found and not re.search(WRITTEN_BY_READER, name):
            assert_named(name, path)
            path = found[1] or path


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]) + re.findall(r'src="([^"]+)"', TEXTS[page])
    for target in targets:
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text()), target


@pytest.mark.parametrize("page", [page for page in TEXTS if page.startswith("docs/")])
def test_the_readme_links_every_page(page):
    assert f"({page})" in TEXTS["README.md"]


PYTHON = [(page, code) for page, text in TEXTS.items() for code in blocks(text, "python")]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[page for page, _ in PYTHON])
def test_a_python_example_runs_and_prints_what_its_comments_say(page, code, capsys, caplog):
    caplog.set_level(logging.ERROR, "optwrap")  # handlers of earlier tests may show more, and warn of this machine
    compiled = compile(code, page, "exec")
    if "print(" in code:  # test_template.py runs the others, which are files of a project
        exec(compiled, {"__name__": "example"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.M)


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if blocks(text, "yaml")])
def test_yaml_can_be_read(page):
    assert all(isinstance(yaml.safe_load(block), dict) for block in blocks(TEXTS[page], "yaml"))


def test_every_mixin_that_the_table_names_exists_and_every_file_is_named():
    rows = [line.split("|")[1] for line in section("docs/strategies.md", "Mixins").splitlines() if "| `" in line]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {
        "RMSprop"
    }  # and any class of torch.optim
    assert named == {path.stem for path in (ROOT / "conf" / "optim_wrapper").glob("*.yaml")}


def test_every_hook_and_each_of_their_methods_is_in_a_table():
    from optwrap.hooks.hook import METHODS

    rows = [line for line in section("docs/extend.md", "Hooks").splitlines() if line.startswith("| `")]
    named = [re.match(r"\| `(\w+)`", row)[1] for row in rows]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "conf" / "hooks").glob("*.yaml"))
    methods = re.findall(
        r"`(\w+)\([\w, ]*\)`", section("docs/extend.md", "A hook in ten lines").partition("`run` has")[0]
    )
    assert methods == list(METHODS)


def test_every_experiment_is_in_the_table():
    named = set(re.findall(r"`([\w/]+)`", re.sub(r"^.*\n```", "", TEXTS["docs/experiments.md"], flags=re.S)))
    assert {path.stem for path in (ROOT / "experiments").glob("*.yaml")} <= named


def test_every_room_of_the_library_stands_where_things_are():
    lines = section("README.md", "Where things are").splitlines()
    library = ROOT / "src" / "optwrap"
    rooms = [f"{path.parent.name}/" for path in library.rglob("__init__.py") if path.parent != library]
    starts = [re.match(r" +((?:\w+/ )+)", line) for line in lines]
    named = [name for start in starts if start for name in start[1].split()]
    assert sorted(named) == sorted(rooms)


def test_a_promise_names_its_proofs():
    rows = [line for line in TEXTS["docs/promises.md"].splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py[`:]", row.split(" | ")[-1])] == []


def test_every_benchmark_is_named():
    from tests.optwrap.benchmarks.__main__ import BENCHMARKS

    assert set(BENCHMARKS) <= set(re.findall(r"`(\w+)`", TEXTS["docs/speed.md"]))


def test_the_readme_is_short():
    assert TEXTS["README.md"].count("\n") <= 150
