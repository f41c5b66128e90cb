"""Group `experiment`: the files of `experiments/` beside the configs, in a project of its own."""

import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from optwrap.config import store
from optwrap.hydra_versions import VERSION_BASE
from tests.optwrap import forking
from tests.optwrap.cases import one_in

PROGRAM = """
from optwrap import program

@program.main(config_name="config")
def main(cfg):
    from optwrap.instantiate import build
    print("built", build(cfg.task, "task"), cfg.seed, cfg.epochs, cfg.optim_wrapper.get("accumulative_counts"))

if __name__ == "__main__":
    main()
"""

FILES = {
    "plain.yaml": "# five epochs\ndefaults:\n  - override /optim_wrapper: [sgd, accum2]\nepochs: 5\nseed: 7\n",
    "header.yaml": "# @package _global_\n# with a header\nepochs: 6\n",
    "quick/plain.yaml": "# one epoch\ndefaults:\n  - /experiment/plain\n  - _self_\nepochs: 1\n",
    "own.yaml": "# a task of its own\ndefaults:\n  - override /task: null\n  - override /model: null\n"
    "model: {_target_: experiments.own.Model}\ntask: {_target_: experiments.own.task, word: yes we can}\n",
    "own.py": "def task(word):\n    return f'a task that says {word}'\n",
    "gan.yaml": "# a GAN\ndefaults:\n  - override /optim_wrapper: gan\n"
    "  - override /optim_wrapper/generator: [adam, amp, clip]\n"
    "optim_wrapper: {discriminator: {accumulative_counts: 3}}\n",
    "names.yaml": "# names of its own\ndefaults:\n  - /optim_wrapper/encoder: [amp, adam]\n"
    "  - /optim_wrapper/head: sgd\n  - override /optim_wrapper: multi\n"
    "optim_wrapper: {encoder: {optimizer: {lr: 0.5}}}\n",
}


@pytest.fixture
def project(tmp_path: Path, conf: Path) -> Path:
    """A copy of this repository's configs with experiments of its own, in a folder of another name."""
    folder = tmp_path / "another name"
    shutil.copytree(conf, folder / "conf")
    (folder / "train.py").write_text(PROGRAM)
    for name, text in FILES.items():
        (folder / "experiments" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "experiments" / name).write_text(text)
    (folder / "conf" / "task" / "classification.yaml").write_text("# says nothing\n_target_: builtins.str\n")
    return folder


@pytest.fixture
def composed(project: Path) -> Iterator[Callable]:
    store.register()
    with initialize_config_dir(str(project / "conf"), **VERSION_BASE):
        yield lambda *overrides: compose("config", list(overrides))


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """Run the project's program in this process, from another folder; return exit code, stdout, stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    (project.parent / "elsewhere").mkdir()
    monkeypatch.chdir(project.parent / "elsewhere")

    def run_program(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(project / "train.py"), *arguments])
        code = 0
        try:
            runpy.run_path(str(project / "train.py"), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    yield run_program
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_experiment_wins_over_the_defaults_and_the_command_line_over_it(composed: Callable) -> None:
    cfg = composed("experiment=plain", "seed=8")
    assert (cfg.epochs, cfg.seed, cfg.optim_wrapper.accumulative_counts) == (5, 8, 2)
    typed = composed("experiment=plain", "optim_wrapper=[sgd,accum4]", "epochs=9")
    assert (typed.epochs, typed.optim_wrapper.accumulative_counts) == (9, 4)


def test_the_package_header_is_allowed_and_not_needed(composed: Callable) -> None:
    assert composed("experiment=header").epochs == 6


def test_an_experiment_in_a_folder_can_build_on_another(composed: Callable) -> None:
    cfg = composed("experiment=quick/plain")
    assert (cfg.epochs, cfg.seed, cfg.optim_wrapper.accumulative_counts) == (1, 7, 2)


def test_wrappers_inside_a_wrapper_are_chosen_in_an_experiment(composed: Callable) -> None:
    cfg = composed("experiment=gan").optim_wrapper
    assert cfg.generator == composed("optim_wrapper=[adam,amp,clip]").optim_wrapper
    assert (cfg.discriminator.accumulative_counts, cfg.discriminator.optimizer.lr) == (3, 2e-4)
    typed = composed("experiment=gan", "optim_wrapper/discriminator=[sgd,accum2]").optim_wrapper
    assert typed.discriminator.optimizer._target_ == "torch.optim.SGD"


def test_wrappers_can_have_names_of_ones_own(composed: Callable) -> None:
    cfg = composed("experiment=names").optim_wrapper
    assert set(cfg) == {"constructor", "encoder", "head"}
    assert (cfg.encoder.optimizer.lr, cfg.encoder.loss_scale, cfg.encoder.accumulative_counts) == (
        0.5,
        "dynamic",
        1,
    )
    assert OmegaConf.to_container(cfg.head) == OmegaConf.to_container(composed("optim_wrapper=sgd").optim_wrapper)
    typed = composed("experiment=names", "optim_wrapper/encoder=[adamw,accum2]").optim_wrapper
    assert typed.encoder.accumulative_counts == 2


def test_a_project_without_experiments_composes(project: Path) -> None:
    shutil.rmtree(project / "experiments")
    store.register()
    with initialize_config_dir(str(project / "conf"), **VERSION_BASE):
        assert compose("config").epochs == 20


@pytest.mark.parametrize("moved", one_in(2, [True, False]))
@pytest.mark.parametrize(
    "arguments", one_in(2, [["experiment=own"], ["-m", "experiment=own", "seed=0,1"]], ["run", "sweep"])
)
def test_code_beside_an_experiment_imports_from_any_folder(
    project: Path, moved: bool, arguments: list[str]
) -> None:
    if moved:
        project = project.rename(project.parent / "renamed")
    command = [forking.python(), str(project / "train.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=project.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "built a task that says yes we can 0 " in done.stdout
    assert ("built a task that says yes we can 1 " in done.stdout) is (arguments[0] == "-m")


@pytest.mark.slow
def test_experiments_can_be_swept(run: Callable) -> None:
    code, out, err = run("-m", "experiment=plain,quick/plain")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("built")] == ["built  7 5 2", "built  7 1 2"]


@pytest.mark.slow
def test_choices_for_wrappers_inside_a_wrapper_can_be_swept(run: Callable) -> None:
    code, out, err = run("-m", "experiment=gan", "optim_wrapper/generator=[sgd],[sgd,amp]", "seed=3")
    assert (code, err) == (0, "")
    assert out.count("built  3 ") == 2


@pytest.mark.slow
def test_help_lists_the_experiments_with_their_first_comments(run: Callable) -> None:
    code, out, _ = run("--help", "experiment=gan")
    lines = [line.strip() for line in out.splitlines()]
    assert code == 0
    assert "experiment  (now: gan)" in lines
    for text in ("plain        five epochs", "header       with a header", "quick/plain  one epoch"):
        assert text in lines


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exper", "experiment="),
        ("experiment=qu", "experiment=quick/plain"),
        ("experiment=gan optim_wrapper.generator.loss", "optim_wrapper.generator.loss_scale="),
        ("experiment=gan optim_wrapper/generator=Ada", "optim_wrapper/generator=Adagrad"),
    ],
)
def test_completion_offers_them(run: Callable, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str) -> None:
    line = f"python train.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert offered in run("-sc", "query=bash")[1].split()


def test_an_experiment_may_have_keys_of_its_own(project: Path, run: Callable) -> None:
    text = "vars: {width: 8}\nseed: ${vars.width}\n"
    (project / "experiments" / "new.yaml").write_text(text)
    code, out, err = run("experiment=new")
    assert code == 0, err
    assert " 8 20 1" in out


WRONG = [
    ("experiment=plan", "", ["experiment=plan: ", "no option 'plan'", "Did you mean 'plain'?", "quick/plain"]),
    ("experiment=quick/plan", "", ["no option 'quick/plan'", "Did you mean 'quick/plain'?"]),
    ("experiment=new", "epoch: 3\n", ["In experiments/new.yaml: ", "Did you mean 'epochs'?"]),
    ("experiment=new", "epochs: many\n", ["In experiments/new.yaml: ", "epochs", "expected int"]),
    ("experiment=new", "epochs: 3\n seed: 2\n", ['new.yaml", line 2']),
    ("experiment=new", "defaults: [override /model: small_cn]\n", ["'small_cn'", "Did you mean 'small_cnn'?"]),
    (
        "experiment=new",
        "defaults: [override /optim_wrapper: [sgd, adam]]\n",
        ["optim_wrapper have two optimizers"],
    ),
    (
        "experiment=new",
        "defaults: [override /optim_wrapper: gan, override /optim_wrapper/generatr: adam]\n",
        ["In experiments/new.yaml: ", "no wrapper 'generatr'"],
    ),
    (
        "experiment=gan optim_wrapper=[sgd,amp]",
        "",
        ["optim_wrapper=[sgd,amp]: this is a single wrapper", "experiments/gan.yaml", "generator=[sgd,amp]'"],
    ),
    (
        "experiment=new",
        "defaults: [override /optim_wrapper: gan]\noptim_wrapper: {clip_grad: {max_norm: 1}}\n",
        ["In experiments/new.yaml: ", "generator and discriminator"],
    ),
    (
        "experiment=new",
        "defaults: [override /optim_wrapper: gan]\noptim_wrapper: {generatr: {accumulative_counts: 2}}\n",
        ["optim_wrapper.generatr has no optimizer", "Did you mean 'generator'?"],
    ),
    (
        "experiment=gan optim_wrapper.discriminator.loss_scale=8",
        "",
        ["add amp to the list: 'optim_wrapper/discriminator=[gan_adam,amp]'"],
    ),
    (
        "experiment=new",
        "defaults: [override /optim_wrapper: multi, /optim_wrapper/encoder: [amp, adam]]\n",
        ["put the `override` lines last"],
    ),
    ("experiment=names optim_wrapper.head.acumulative_counts=2", "", ["Did you mean 'accumulative_counts'?"]),
    (
        "experiment=new",
        "defaults: [names]\noptim_wrapper: {head: {clip_grad: 1}}\n",
        ["In experiments/new.yaml: ", "ClipGrad"],
    ),
    ("experiment=own task.wrod=a", "", ["task.wrod=a: ", "Did you mean 'word'?"]),
]


@pytest.mark.parametrize(
    ("arguments", "new", "expected"), one_in(4, WRONG, [f"{a} {n}".strip() for a, n, _ in WRONG])
)
def test_what_is_wrong_in_an_experiment_is_one_message(
    run: Callable, project: Path, arguments: str, new: str, expected: list[str]
) -> None:
    if new:
        (project / "experiments" / "new.yaml").write_text(new)
    code, _, err = run(*arguments.split(" "))
    assert code == 1
    assert "Traceback" not in err
    for text in expected:
        assert text in err
