import sys
from types import SimpleNamespace

import pytest

from optwrap.errors import ConfigError
from optwrap.program.nodes import Nodes


@pytest.fixture
def slurm(monkeypatch):
    """Make this process a task of a Slurm job, as submitit describes it; returns what changes the description."""
    environment = SimpleNamespace(num_nodes=2, num_tasks=2, node=1, hostnames=["a1", "a2"], raw_job_id="12345")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(JobEnvironment=lambda: environment))
    return environment


def test_without_slurm_a_job_has_this_machine_alone():
    nodes = Nodes.of_this_job()
    assert (nodes.count, nodes.index) == (1, 0)
    assert nodes.port(0) == 0  # any that is free


@pytest.mark.usefixtures("slurm")
def test_all_nodes_of_a_job_meet_at_its_first_under_one_name():
    nodes, first = Nodes.of_this_job(), Nodes(count=2, index=0, first="a1", job=12345)
    assert (nodes.count, nodes.index, nodes.first) == (2, 1, "a1")
    assert nodes.port(0) == first.port(0)
    assert nodes.run_id(0) == first.run_id(0)


@pytest.mark.usefixtures("slurm")
def test_a_further_attempt_does_not_meet_what_is_left_of_the_one_before():
    nodes = Nodes.of_this_job()
    assert nodes.port(1) != nodes.port(0)
    assert nodes.run_id(1) != nodes.run_id(0)


def test_several_tasks_on_a_node_are_an_error_with_the_remedy(slurm):
    slurm.num_tasks = 4
    with pytest.raises(ConfigError, match=r"4 tasks on 2 nodes.*hydra.launcher.tasks_per_node=1.*nproc="):
        Nodes.of_this_job()
