"""The machines of a job that a launcher started on several."""

import os
import uuid
from dataclasses import dataclass

from optwrap.errors import ConfigError


@dataclass(frozen=True)
class Nodes:
    """The machines that a launcher gave to one job; `index` is this one's, `first` the name of the first.

    `job` is the number that all of them know it by.
    """

    count: int = 1
    index: int = 0
    first: str = "localhost"
    job: int = 0

    @classmethod
    def of_this_job(cls) -> "Nodes":
        """Return what submitit has under Slurm; anywhere else this machine alone.

        Raises:
            ConfigError: the launcher started several tasks on a node.
        """
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return cls()
        from submitit import JobEnvironment  # installed, since it started this process

        environment = JobEnvironment()
        if environment.num_tasks != environment.num_nodes:
            raise ConfigError(
                f"the job has {environment.num_tasks} tasks on {environment.num_nodes} nodes: one task of a node "
                "starts its processes. Give hydra.launcher.tasks_per_node=1, and their number as nproc=..."
            )
        return cls(environment.num_nodes, environment.node, environment.hostnames[0], int(environment.raw_job_id))

    def run_id(self, attempt: int) -> str:
        """Return the name of the group that the nodes' processes form at this attempt, counted from 0."""
        return uuid.uuid4().hex if self.count == 1 else f"{self.job}-{attempt}"

    def port(self, attempt: int) -> int:
        """Return where the nodes meet on the first: 0, any that is free, where it is alone; else one all know.

        It lies below those that systems hand out, and is another for each job and attempt.

        >>> Nodes().port(0), Nodes(count=2, job=123).port(0), Nodes(count=2, job=123).port(1)
        (0, 20123, 20124)
        """
        return 0 if self.count == 1 else 20_000 + (self.job + attempt) % 10_000
