import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.optwrap import forking

ROOT = Path(__file__).parents[3]
QUICK = ("nproc=2", "max_updates=3", "log_every=1", "device=cpu", "schedule=constant", "data.augment=false")


def program(*overrides):
    command = [forking.python(), "train.py", *overrides]
    return subprocess.run(command, cwd=ROOT, env=forking.ranks(), capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_sweep_runs_each_job_on_several_processes(tmp_path):
    done = program("-m", *QUICK, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs finished" in done.stdout
    assert "Finished" not in done.stdout  # the terminal is the sweep's
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["seed"] for row in rows} == {"0", "1"}
    for log in tmp_path.glob("*/train.log"):
        assert "ddp over 2 ranks of 32 samples each" in log.read_text()


@pytest.mark.slow
def test_an_error_in_a_process_is_one_message(tmp_path):
    done = program(*QUICK, "batch_size=63", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 1
    assert done.stderr.startswith("batch_size=63: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_processes_work_in_a_folder_of_any_name_and_compose_from_the_same_configs(tmp_path):
    mine = tmp_path / "my configs" / "model"
    mine.mkdir(parents=True)
    (mine / "own.yaml").write_text((ROOT / "conf" / "model" / "small_cnn.yaml").read_text())
    folder = tmp_path / "dépôt (a)=,[b]{}~#&!;'"
    done = program("--config-dir", str(mine.parent), *QUICK, "model=own", f'hydra.run.dir="{folder}"')
    assert done.returncode == 0, done.stderr
    assert (folder / "result.json").exists()


@pytest.mark.slow
def test_a_run_of_several_processes_is_no_sweep_where_a_file_asks_for_one(tmp_path):
    sweep = ("experiment=sweep/paramwise", "hydra.sweeper.params=null", "seed=0", f"hydra.sweep.dir={tmp_path}")
    done = program(*sweep, *QUICK)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("*/result.json")
    assert "val/accuracy" in result.read_text()


DYING = """
import os, sys
sys.path.insert(0, {root!r})
from optwrap import program

@program.main(config_path={conf!r})
def main(cfg):
    print("the disk is on fire", file=sys.stderr, flush=True)
    os._exit(7)

main()
"""


@pytest.mark.slow
def test_a_process_that_dies_without_a_word_is_quoted_and_nothing_is_resumed_that_never_began(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(DYING.format(root=str(ROOT), conf=str(ROOT / "conf")))
    done = subprocess.run(
        [forking.python(), str(script), "nproc=2", f"hydra.run.dir={tmp_path}/run"],
        cwd=ROOT, env=forking.ranks(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ended with 7. It said last:\n  the disk is on fire" in done.stderr
    assert "resume" not in done.stderr
    assert "ended with 7" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("value", [0, -1])
def test_a_number_of_processes_below_1_is_an_error(value, train, capsys):
    with pytest.raises(SystemExit) as end:
        train(f"nproc={value}")
    assert end.value.code == 1
    assert f"nproc={value}: it must be 1 or more." in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_ends_all_processes_after_the_same_update_and_the_run_goes_on(tmp_path):
    command = [forking.python(), "train.py", *QUICK[:1], *QUICK[2:], "max_updates=60", "deterministic=true"]
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*command, f"hydra.run.dir={folder}"], cwd=ROOT, env=forking.ranks(), stderr=subprocess.PIPE, text=True
    )
    while len(_rows(folder)) < 5 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert f"resume={folder}" in error
    status = json.loads((folder / "status.json").read_text())
    assert (status["status"], status["updates"]) == ("interrupted", 60)
    assert 5 <= status["update"] < 60

    done = program(f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert [row["update"] for row in _rows(folder) if row["split"] == "train"] == [str(i) for i in range(1, 61)]
    whole = program(*command[2:], f"hydra.run.dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    states = [torch.load(each / "checkpoint.pt", weights_only=True) for each in (folder, tmp_path / "whole")]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name


LAUNCHER = """  # as submitit does: handlers of its own, of which one returns
import runpy, signal, sys
signal.signal(signal.SIGTERM, lambda *_: print("passing SIGTERM by"))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_at_a_signal_that_a_launcher_passes_by_the_processes_save_and_go_on(tmp_path):
    command = [*("train.py", "nproc=2"), *QUICK[2:], "max_updates=60", f"hydra.run.dir={tmp_path}"]
    environment = forking.ranks() | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(
        [forking.python(), "-c", LAUNCHER, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    while len(_rows(tmp_path)) < 5 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "passing SIGTERM by" in output
    assert (tmp_path / "train.log").read_text().count("Going on from") == 1
    assert [row["update"] for row in _rows(tmp_path) if row["split"] == "train"] == [str(i) for i in range(1, 61)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal of POSIX")
def test_the_processes_save_and_end_with_the_one_that_started_them(tmp_path):
    command = [
        sys.executable,
        "train.py",
        "nproc=2",
        *QUICK[2:],
        "max_updates=100000",
        f"hydra.run.dir={tmp_path}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while len(_rows(tmp_path)) < 5 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    status, end = tmp_path / "status.json", time.monotonic() + 60
    while json.loads(status.read_text())["status"] != "interrupted":
        assert time.monotonic() < end
        time.sleep(0.1)


def _rows(folder):
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))
