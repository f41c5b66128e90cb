"""A sweep on a Slurm cluster; where there is none, nothing is tested."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))
from compare import differences

ROOT = Path(__file__).parents[3]
COMMON = [  # one epoch, so that preemption's checkpoint is the only one before the end
    *("data=fake", "data.size=16000", "data.image_size=8", "batch_size=4", "epochs=1"),
    *("optim_wrapper=[sgd,amp,accum4,clip]", "device=cpu", "deterministic=true"),
]


def command(*arguments):
    return [sys.executable, str(ROOT / "train.py"), *arguments, *COMMON]


def slurm(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def skip_with_fewer_nodes_than(count):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    try:
        nodes = slurm("sinfo", "-hNo", "%N").split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Slurm cluster answers")
    if len(set(nodes)) < count:
        pytest.skip(f"the Slurm cluster has fewer than {count} nodes")


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "nproc"), [(1, 1), (1, 2), (2, 1)])
def test_a_preempted_job_goes_on_from_its_checkpoint_and_ends_as_the_uninterrupted_one(tmp_path, nodes, nproc):
    skip_with_fewer_nodes_than(nodes)
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["hydra.launcher.timeout_min=5", "hydra.launcher.cpus_per_task=1", f"hydra.launcher.nodes={nodes}"]
    sweep = subprocess.Popen(
        command("-m", "hydra/launcher=slurm", f"hydra.sweep.dir={out}", *options, f"nproc={nproc}")
    )
    wait_for(lambda: [path for path in out.glob("*/metrics.csv") if len(path.read_text().splitlines()) > 5])
    (job,) = (path.name for path in (out / ".submitit").iterdir() if path.name.isdigit())
    slurm("scancel", "--signal=USR2", job)  # as preemption does
    wait_for(lambda: slurm("squeue", "-hj", job, "-o", "%T") == "PENDING")
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")  # Slurm lets a requeued job wait for 2 minutes
    subprocess.run(command(f"hydra.run.dir={whole}", f"nproc={nodes * nproc}"), check=True)
    assert sweep.wait(timeout=300) == 0
    (log,) = out.glob("*/train.log")
    assert log.read_text().count("Going on from") == 1
    assert [each for each in differences(whole, log.parent) if "config.nproc" not in each] == []
