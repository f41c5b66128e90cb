import multiprocessing
from contextlib import contextmanager

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.program.folder import open_folder


@contextmanager
def opened(folder, cfg, overrides=()):
    hydra = {"runtime": {"output_dir": str(folder)}, "overrides": {"task": list(overrides)}}
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})
    try:
        with open_folder(OmegaConf.create(cfg)):
            yield
    finally:
        HydraConfig.instance().cfg = None


def test_a_new_run_leaves_its_config_and_what_was_typed(tmp_path):
    with opened(tmp_path, {"seed": 3, "resume": None}, ["seed=3"]):
        assert OmegaConf.load(tmp_path / ".hydra/config.yaml") == {"seed": 3, "resume": None}
        assert OmegaConf.load(tmp_path / ".hydra/overrides.yaml") == ["seed=3"]
        assert OmegaConf.load(tmp_path / ".hydra/hydra.yaml").hydra.runtime.output_dir == str(tmp_path)


@pytest.mark.parametrize("resume", [None, "auto"])
def test_the_config_of_an_earlier_run_stays_until_it_has_gone_on(resume, tmp_path):
    with opened(tmp_path, {"seed": 3, "resume": None}):
        (tmp_path / "metrics.csv").touch()
    if resume is None:
        with pytest.raises(ConfigError, match="resume=auto"), opened(tmp_path, {"seed": 4, "resume": None}):
            pass
    else:
        with opened(tmp_path, {"seed": 4, "resume": resume}):
            pass
    assert OmegaConf.load(tmp_path / ".hydra/config.yaml").seed == 3


def _second(folder, answers):
    try:
        with opened(folder, {"seed": 4, "resume": "auto"}):
            answers.put("opened")
    except ConfigError as error:
        answers.put(str(error))


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def ask():
        process = context.Process(target=_second, args=(tmp_path, answers))
        process.start()
        answer = answers.get(timeout=30)
        process.join()
        return answer

    with opened(tmp_path, {"seed": 3, "resume": None}):
        assert "another process works in this folder" in ask()
    assert ask() == "opened"
