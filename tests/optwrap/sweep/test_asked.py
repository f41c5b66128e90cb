import pytest
from hydra.conf import HydraConf, OverridesConf
from hydra.types import RunMode

from optwrap.errors import ConfigError
from optwrap.sweep.asked import check_asked


def hydra(mode, *overrides):
    return HydraConf(mode=mode, overrides=OverridesConf(hydra=list(overrides)))


@pytest.mark.parametrize(
    "typed", ["hydra/launcher=slurm", "hydra/sweeper=search", "hydra.sweep.dir=x", "+hydra.launcher.n_jobs=2"]
)
def test_what_counts_in_a_sweep_alone_asks_for_m_and_does_not_train_here_in_silence(typed):
    with pytest.raises(ConfigError, match=r"-m"):
        check_asked(hydra(RunMode.RUN, "hydra.run.dir=x", typed), several_ranks=False)
    check_asked(hydra(RunMode.MULTIRUN, typed), several_ranks=False)


def test_a_run_may_be_told_the_rest():
    check_asked(hydra(RunMode.RUN, "hydra.run.dir=x", "hydra.job.chdir=true"), several_ranks=True)


def test_a_sweep_that_a_file_asks_for_does_not_run_in_each_rank():
    with pytest.raises(ConfigError, match=r"hydra.mode=MULTIRUN: .*nproc=2"):
        check_asked(hydra(RunMode.MULTIRUN), several_ranks=True)
