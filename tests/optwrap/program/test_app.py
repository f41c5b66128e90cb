"""The program as its users meet it: exit codes and messages, for right and wrong command lines."""

import logging
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from tests.optwrap.cases import one_in

CONF = Path(__file__).parents[3] / "conf"

SCRIPT = """
import time
from hydra.utils import instantiate
from optwrap.errors import ConfigError
from optwrap import program

@program.main(config_name="config", config_path={conf!r})
def main(cfg):
    if cfg.device == "bug":
        return [][1]
    if cfg.device == "config":
        raise ConfigError("device=config: no such device.")
    if cfg.device == "handler":
        try:
            raise ConfigError("seed=0: too low.")
        except ConfigError:
            return [][1]
    if cfg.device == "optimizer":
        import torch

        weight = torch.nn.Parameter(torch.ones(1))
        weight.grad = torch.ones(1)
        torch.optim.SparseAdam([weight]).step()
    if cfg.device == "file":
        open(cfg.data_root + "/train.npy")
    if cfg.device == "typo":
        return cfg.epoch
    if cfg.device == "build":
        instantiate(cfg.task)
    if cfg.device == "sleep":
        print("started", flush=True)
        time.sleep(60)
    print("ran with seed", cfg.seed)

if __name__ == "__main__":
    main()
"""


@dataclass
class Result:
    """How a program ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(conf=str(CONF)))
    return path


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the script in this process."""
    monkeypatch.chdir(script.parent)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run_script(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        code = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run_script


Run = Callable[..., Result]


def test_right_command_line_runs_the_job_in_a_folder_of_its_own(run: Run, script: Path) -> None:
    result = run("seed=3", "optim_wrapper=[sgd,amp]")
    assert (result.code, result.out.strip(), result.err) == (0, "ran with seed 3", "")
    (config,) = script.parent.glob("outputs/*/*/.hydra/config.yaml")
    assert OmegaConf.load(config).seed == 3


# Each: the command line, then what the message must say.
WRONG = [
    ("dta=mnist", ["dta=mnist: ", "Did you mean 'data'?"]),
    ("optim_wraper=sgd", ["Did you mean 'optim_wrapper'?"]),
    ("data=minst", ["group data has no option 'minst'", "Did you mean 'mnist'?", "digits"]),
    ("optim_wrapper=sgdd", ["Did you mean 'sgd'?"]),
    (
        "optim_wrapper=sgd,amp",
        ["optim_wrapper=sgd,amp: several values", "-m optim_wrapper", "'optim_wrapper=[sgd,amp]'"],
    ),
    ("-m seed=0,1 epochs=2 +seed=5", ["seed is there twice, seed=0,1 and +seed=5: a sweep takes one list"]),
    ("-m epochs=2 epochs=range(1,3)", ["epochs is there twice"]),
    ("hydra.mode=MULTIRUN seed=0,1 seed=5", ["seed is there twice"]),
    ("-m model=small_vit,small_cnn model.depth=2", ["give it as a choice of one: 'model.depth=choice(2)'"]),
    ("model=null", ["model=null: a group takes the name of an option", "'~model'", "model._target_="]),
    ("objective=größe", ["objective=größe: ", "'objective=\"größe\"'"]),
    ("optim_wrapper.optimizer.learning_rate=1", ["Did you mean 'lr'?"]),
    ("optim_wrapper=[sgd,ampp]", ["optim_wrapper=[sgd,ampp]: ", "no option 'ampp'", "Did you mean 'amp'?"]),
    ("optim_wrapper.acumulative_counts=2", ["Did you mean 'accumulative_counts'?"]),
    (
        "optim_wrapper.optimizer.momentm=1",
        ["optim_wrapper.optimizer (SGD)", "Did you mean 'momentum'?", "nesterov"],
    ),
    (
        "optim_wrapper=adamw optim_wrapper.optimizer.momentum=1",
        ["optim_wrapper.optimizer.momentum=1: ", "(AdamW) has no key 'momentum'"],
    ),
    ("lr=0.1", ["Did you mean 'optim_wrapper.optimizer.lr'?"]),
    ("schedule=StepLR schedule.lr.gama=1", ["(StepLR)", "Did you mean 'gamma'?"]),
    ("hydra/lancher=basic", ["Did you mean 'hydra/launcher'?"]),
    ("-m hydra/launcher=slurm", ["hydra/launcher=slurm: ", 'pip install -e ".[submitit]"']),
    ("-m hydra/sweeper=search seed=1", ["hydra/sweeper=search: nothing is to be chosen"]),
    ("optim_wrapper.dtype=float16", ["add amp to the list: 'optim_wrapper=[sgd,amp]'"]),
    ("optim_wrapper=[adamw,clip] optim_wrapper.loss_scale=8", ["'optim_wrapper=[adamw,clip,amp]'"]),
    ("optim_wrapper=[sgd,adamw]", ["two optimizers", "sgd (SGD)", "adamw (AdamW)"]),
    ("optim_wrapper=[Adagrad,clip,adam]", ["two optimizers", "Adagrad (Adagrad)", "adam (Adam)"]),
    ("optim_wrapper=[amp,sgd,amp_bf16]", ["AMP twice", "amp ", "amp_bf16 "]),
    ("optim_wrapper=[sgd,hybrid_muon]", ["two optimizers", "sgd (SGD)", "hybrid_muon (AdamW)"]),
    ("optim_wrapper=[layer_decay,clip,hybrid_muon]", ["two constructors", "layer_decay ", "hybrid_muon "]),
    ("optim_wrapper.paramwise_cfg.decay_factor=1", ["add layer_decay", "'optim_wrapper=[sgd,layer_decay]'"]),
    ("optim_wrapper.hidden_optimizer.lr=1", ["add hybrid_muon to the list: 'optim_wrapper=hybrid_muon'"]),
    ("optim_wrapper=[gan,sgd]", ["wrapper each for generator and discriminator", "optim_wrapper/generator=["]),
    ("optim_wrapper=[clip,gan]", ["optim_wrapper=[clip,gan]: ", "optim_wrapper/generator=["]),
    ("optim_wrapper=[gan,amp]", ["optim_wrapper/generator=["]),
    ("optim_wrapper=[gan,layer_decay]", ["two constructors"]),
    ("optim_wrapper=gan optim_wrapper.clip_grad.max_norm=1", ["optim_wrapper.generator.clip_grad.max_norm=..."]),
    ("optim_wrapper=gan optim_wrapper.generatr.accumulative_counts=2", ["Did you mean 'generator'?"]),
    ("optim_wrapper=gan optim_wrapper.generator.acumulative_counts=2", ["Did you mean 'accumulative_counts'?"]),
    ("optim_wrapper=gan optim_wrapper.generator.loss_scale=2", ["'optim_wrapper/generator=[gan_adam,amp]'"]),
    ("optim_wrapper=gan optim_wrapper.generator.optimizer.beta=1", ["(Adam)", "Did you mean 'betas'?"]),
    ("optim_wrapper=gan optim_wrapper/generatr=adam", ["Did you mean 'generator'?", "generator, discriminator"]),
    ("optim_wrapper/generator=adam", ["no wrapper 'generator'", "optim_wrapper=gan"]),
    ("optim_wrapper=gan optim_wrapper/generator=[adm,amp]", ["no option 'adm'", "Did you mean 'adam'?"]),
    ("optim_wrapper=gan optim_wrapper/generator=[adam,sgd]", ["two optimizers", "adam (Adam)", "sgd (SGD)"]),
    (
        "optim_wrapper=gan optim_wrapper/generator=amp",
        ["chooses no optimizer", "'optim_wrapper/generator=[sgd,amp]'", "'optim_wrapper.generator.optimizer="],
    ),
    ("optim_wrapper=gan optim_wrapper/generator=gan", ["one level deep"]),
    ("-m optim_wrapper=gan optim_wrapper/generator=[adam],[adam,sgd]", ["two optimizers"]),
    ("experimnt=digits", ["Did you mean 'experiment'?"]),
    ("optim_wrapper=amp", ["chooses no optimizer", "'optim_wrapper=[sgd,amp]'"]),
    ("optim_wrapper=amp schedule=one_cycle", ["chooses no optimizer"]),
    ("optim_wrapper.optimizer={_target_:a.B,c:1}", ["'optim_wrapper=[]'"]),
    ("epochs=abc", ["epochs=abc: ", "expected int", "'abc'"]),
    ("epochs=null", ["expected int", "null"]),
    ("optim_wrapper=adamw optim_wrapper.optimizer.betas=1", ["expected a list of float", "got 1"]),
    ("optim_wrapper=adamw optim_wrapper.optimizer.betas=[a,b]", ["optim_wrapper.optimizer.betas[0]", "'a'"]),
    ("optim_wrapper.clip_grad.max_norm=big", ["expected float or null", "'big'"]),
    ("optim_wrapper.clip_grad=1", ["expected a mapping"]),
    ("optim_wrapper=1", ["optim_wrapper=1: ", "must be a string or a list"]),
    ("schedule=StepLR", ["schedule.lr.step_size has no value", "schedule.lr.step_size=..."]),
    ("schedule=cosine schedule.lr=[{cosine:{}}]", ["schedule.lr=", "a list and a mapping", "schedule=constant"]),
    ("optim_wrapper=[sgd,amp", ["optim_wrapper=[sgd,amp: ", "cannot be read", "bracket"]),
    ("epochs", ["KEY=VALUE", "epochs=..."]),
    ("epochs=1,2", ["epochs=1,2: several values are a sweep, which takes -m: train.py -m epochs=1,2."]),
    ("+epochs=3", ["'epochs=3'"]),
    ("-m seed=0,1 epochs=abc", ["epochs=abc: ", "expected int"]),
    ("-m optim_wrapper=[sgd],[sgd,adamw]", ["[sgd,adamw]", "two optimizers"]),
    ("--cfg job data=minst", ["Did you mean 'mnist'?"]),
    ("--help dta=1", ["Did you mean 'data'?"]),
    ("device=config", ["device=config: no such device."]),
    ("hydra.run.dir=", ["hydra.run.dir=: a folder has a name."]),
    ("hydra.run.dir=/dev/null/run", ["/dev/null/run: ", "hydra.run.dir=..."]),
    ("model._target_=nowhere.Net", ["model._target_='nowhere.Net'", "No module named 'nowhere'"]),
    ("device=typo", ["train.py, line 27: ", "Did you mean 'epochs'?"]),
    ("device=optimizer", ["optim_wrapper.optimizer: SparseAdam does not support dense gradients"]),
    ("device=file data_root=/nowhere", ["data_root=/nowhere: /nowhere/train.npy is not there."]),
    ("device=build task._target_=nowhere.Task", ["task._target_='nowhere.Task'", "No module named 'nowhere'"]),
    ("device=build task._target_=builtins.int", ["task: ", "TypeError: ", "invalid keyword argument"]),
]


@pytest.mark.parametrize(("arguments", "expected"), one_in(10, WRONG, [arguments for arguments, _ in WRONG]))
def test_wrong_command_line_gives_one_message_without_a_traceback(
    run: Run, arguments: str, expected: list[str]
) -> None:
    result = run(*arguments.split(" "))
    assert result.code == 1
    assert "Traceback" not in result.err
    for text in expected:
        assert text in result.err
    assert len(result.err.strip().splitlines()) <= 7
    assert "Error executing job" not in result.err
    left = set(Path.cwd().glob("outputs/[!m]*/*")) | set(Path.cwd().glob("[!o]*"))
    assert {path.name for path in left} == {"train.py"}  # no folder, and nothing beside the program


def test_misspelt_field_in_a_file_names_the_file(run: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "optim_wrapper").mkdir(parents=True)
    (tmp_path / "mine" / "optim_wrapper" / "halves.yaml").write_text("acumulative_counts: 2\n")
    result = run("--config-dir", "mine", "optim_wrapper=[sgd,halves]")
    assert result.code == 1
    assert result.err.startswith("In optim_wrapper/halves.yaml: ")
    assert "Did you mean 'accumulative_counts'?" in result.err


def test_broken_yaml_names_the_file_and_the_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("width: 1\n depth: 2\n")
    result = run("--config-dir", "mine", "model=broken")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert 'broken.yaml", line 2' in result.err


def test_unknown_flag_is_a_usage_error_that_shows_how_overrides_are_written(run: Run) -> None:
    result = run("--epochs", "5")
    assert result.code == 2
    assert "overrides without dashes: -m seed=0,1 epochs=5" in result.err


@pytest.mark.slow
def test_bug_in_the_handling_of_a_config_error_is_shown_as_the_bug(run: Run) -> None:
    result = run("device=handler")
    assert result.code == 1
    assert "IndexError: list index out of range" in result.err


def test_bug_keeps_its_traceback_without_the_frames_of_hydra(run: Run) -> None:
    result = run("device=bug")
    assert result.code == 1
    assert "IndexError: list index out of range" in result.err
    assert "train.py" in result.err
    assert "site-packages/hydra" not in result.err
    assert "app.py" not in result.err
    assert result.err.strip().endswith("HYDRA_FULL_ERROR=1 shows the frames of Hydra too.")


@pytest.mark.parametrize("kind", ["config", "bug"])
def test_failure_is_written_to_the_log_of_the_run(run: Run, script: Path, kind: str) -> None:
    folder = script.parent / "mine"  # a new one would go with the message
    folder.mkdir()
    run(f"device={kind}", "hydra.run.dir=mine")
    assert {"config": "no such device", "bug": "IndexError"}[kind] in (folder / "train.log").read_text()


def test_a_bug_leaves_the_folder_of_its_log(run: Run, script: Path) -> None:
    run("device=bug")
    (log,) = script.parent.glob("outputs/*/*/train.log")
    assert "IndexError" in log.read_text()


@pytest.mark.slow
def test_failed_job_of_a_sweep_is_named_and_the_others_run(run: Run, script: Path) -> None:
    result = run("-m", "device=config,cpu")
    assert result.code == 1
    assert "job failed: device=config" in result.out
    assert "ran with seed 0" in result.out
    assert "1 of 2 jobs did not finish:" in result.err
    assert "device=config: device=config: no such device." in result.err


def test_full_error_set_by_the_user_lets_everything_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Error merging override epochs=abc"):
        run("epochs=abc")


@pytest.mark.parametrize("setting", one_in(2, [None, "0"]))
def test_environment_and_stderr_are_as_before_afterwards(
    run: Run, monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    if setting is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", setting)
    stderr = sys.stderr
    run("device=config")
    assert os.environ.get("HYDRA_FULL_ERROR") == setting
    assert sys.stderr is stderr


def test_help_lists_groups_keys_and_examples_but_not_the_config(run: Run) -> None:
    result = run("--help", "optim_wrapper=[sgd,amp]")
    assert result.code == 0
    for text in [
        "optim_wrapper  (now: [sgd,amp])",
        "clip the total gradient norm to 1",
        "warmup_cosine ",
        "batch_size=64",
        "python train.py -m ",
        "schedule=StepLR",
    ]:
        assert text in result.out
    assert "_target_" not in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 110


def test_cfg_job_resolve_prints_the_config(run: Run) -> None:
    result = run("--cfg", "job", "--resolve", "optim_wrapper=[sgd,clip]")
    assert result.code == 0
    assert OmegaConf.create(result.out).optim_wrapper.clip_grad.max_norm == 1.0


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("optim_wrapper=amp", "optim_wrapper=amp_bf16"),
        ("optim_wrapper=Ada", "optim_wrapper=Adagrad"),
        ("optim_wrapper=gan optim_wrapper/generator=am", "optim_wrapper/generator=amp_bf16"),
        ("optim_wrapper.optimizer.mom", "optim_wrapper.optimizer.momentum="),
        ("dat", "data="),
    ],
)
def test_completion_offers_options_and_keys(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    line = f"python train.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    result = run("-sc", "query=bash")
    assert offered in result.out.split()


def test_failing_completion_says_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "python train.py optim_wrapper=[ dat")
    result = run("-sc", "query=bash")
    assert result == Result(1, "", "")


@pytest.mark.slow
def test_composing_completing_and_helping_import_no_torch(script: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    for arguments in (["--help"], ["--cfg", "job"], ["optim_wrapper=sgdd"]):
        body = f"import sys; sys.argv = {[str(script), *arguments]!r}\n{code}"
        done = subprocess.run([sys.executable, "-c", body], cwd=script.parent, capture_output=True, check=False)
        assert done.returncode == 0, arguments


@pytest.mark.slow
@pytest.mark.parametrize("optim_wrapper", ["optim_wrapper=sgd", "optim_wrapper=[adamw,ema,amp,accum2,clip]"])
def test_the_first_update_waits_for_no_library_that_it_has_no_use_for(tmp_path: Path, optim_wrapper: str) -> None:
    code = (
        "import gc, sys, train\n"
        "train.run.set_up\n"  # as the program loads torch: no search for garbage goes through what that has made
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "from optwrap.vision import ClassificationTask\n"
        "step = ClassificationTask.train_step\n"
        "compiler = {'torch._dynamo', 'torch._inductor', 'torch.distributed.tensor', 'sympy'}\n"
        "def seen(*given):\n"
        "    stats = step(*given)\n"
        "    others = {'torchmetrics', 'matplotlib', 'PIL', 'sklearn', 'torchvision'}\n"
        "    print('LOADED', *((others | compiler | {'torch.distributed.checkpoint'}) & sys.modules.keys()))\n"
        "    return stats\n"
        "ClassificationTask.train_step = seen\n"
        f"sys.argv = ['train.py', 'max_updates=1', 'device=cpu', 'hydra.run.dir={tmp_path}/run', *sys.argv[1:]]\n"
        "train.main()\n"
        "print('LOADED', *(compiler & sys.modules.keys()))\n"  # nor does what comes after need the compiler
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, optim_wrapper]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert (said[0], said[-1], len(said) > 1) == ("LOADED", "LOADED", True)


def test_an_interrupt_before_anything_is_written_says_so_and_leaves_no_folder(script: Path) -> None:
    command = [sys.executable, "-u", str(script), "device=sleep"]
    with subprocess.Popen(
        command, cwd=script.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert any("started" in line for line in program.stdout)
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=20)
    assert program.returncode == 130
    (line,) = err.strip().splitlines()
    assert line == "interrupted; nothing was written"
    assert not list(script.parent.glob("outputs/*/*"))


def test_program_called_with_a_config_is_the_plain_function(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # which another test may have left
    main = runpy.run_path(str(script), run_name="elsewhere")["main"]
    with pytest.raises(IndexError):
        main(OmegaConf.create({"device": "bug"}))
