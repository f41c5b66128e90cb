import multiprocessing
from contextlib import contextmanager, suppress

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from optwrap.errors import ConfigError
from optwrap.lock import LOCK, locked
from optwrap.program.folder import dropped_start, open_folder, run_folder


@contextmanager
def settled(folder, overrides=()):
    hydra = {"runtime": {"output_dir": str(folder)}, "overrides": {"task": list(overrides)}}
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


@contextmanager
def opened(folder, cfg, overrides=()):
    with settled(folder, overrides), open_folder(OmegaConf.create(cfg)):
        yield


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


def test_a_start_that_is_refused_leaves_no_folder_and_a_run_stays(tmp_path):
    def ends(folder, error, leaves):
        folder.mkdir(exist_ok=True)
        start = settled(folder), dropped_start(lambda error: leaves), opened(folder, {"seed": 3, "resume": None})
        with suppress(type(error)), start[0], start[1], start[2]:
            (folder / "train.log").write_text("batch_size=0: it must be 1 or more.")
            raise error
        return folder.exists()

    assert not ends(tmp_path / "refused", ConfigError("batch_size=0"), False)
    assert not ends(tmp_path / "interrupted", KeyboardInterrupt(), False)
    assert ends(tmp_path / "bug", ZeroDivisionError(), True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").touch()
    assert ends(tmp_path / "run", ConfigError("a second run"), False)


def test_the_folder_that_another_process_has_taken_stays(tmp_path):
    with settled(tmp_path), suppress(ConfigError), dropped_start(lambda error: False):
        context = multiprocessing.get_context("fork")
        taken, end = context.Event(), context.Event()
        other = context.Process(target=_hold, args=(tmp_path, taken, end))
        other.start()
        assert taken.wait(30)
        raise ConfigError("another process works in this folder")
    assert (tmp_path / LOCK).exists()
    end.set()
    other.join()


def _hold(folder, taken, end):
    with locked(folder):
        taken.set()
        end.wait(30)


@pytest.mark.parametrize("name", ["", None])
def test_a_folder_without_a_name_is_refused(name, tmp_path):
    hydra = {"mode": "RUN", "run": {"dir": name}, "runtime": {"output_dir": str(tmp_path)}}
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})
    HydraConfig.instance().cfg.hydra.mode = RunMode.RUN
    with pytest.raises(ConfigError, match=": a folder has a name"):
        run_folder()
    HydraConfig.instance().cfg = None
