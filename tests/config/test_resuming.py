import pytest

from optwrap.config.resuming import with_saved_overrides
from optwrap.errors import ConfigError


@pytest.fixture
def run(tmp_path):
    (tmp_path / ".hydra").mkdir()
    saved = ["optim_wrapper=adamw", "optim_wrapper.optimizer.lr=0.1", "epochs=3", "resume=auto", "hydra.run.dir=x"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {each}\n" for each in saved))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], ["optim_wrapper=adamw", "optim_wrapper.optimizer.lr=0.1", "epochs=3"]),
        (["epochs=5"], ["optim_wrapper=adamw", "optim_wrapper.optimizer.lr=0.1", "epochs=5"]),
        (["optim_wrapper=sgd"], ["epochs=3", "optim_wrapper=sgd"]),
        (["optim_wrapper=adamw"], ["optim_wrapper.optimizer.lr=0.1", "epochs=3", "optim_wrapper=adamw"]),
        (
            ["++optim_wrapper.optimizer={}"],
            ["optim_wrapper=adamw", "epochs=3", "++optim_wrapper.optimizer={}"],
        ),
    ],
)
def test_what_is_typed_wins_over_what_the_run_was_told(typed, expected, run):
    assert with_saved_overrides([*typed, f"resume={run}"]) == [*expected, f"resume={run}"]


def test_flags_stay_before_overrides(run):
    arguments = with_saved_overrides(["--config-dir", "mine", f"resume={run}", "epochs=5"])
    assert arguments[:2] == ["--config-dir", "mine"]
    assert arguments[-2:] == [f"resume={run}", "epochs=5"]


@pytest.mark.parametrize("arguments", [["epochs=5"], ["resume=auto", "epochs=5"], ["resume=null"], ["--help"]])
def test_without_a_folder_nothing_is_added(arguments):
    assert with_saved_overrides(arguments) == arguments


@pytest.mark.parametrize("content", ["{", "x: 1", "- {a: 1}", "\x00", "${a}"])
def test_a_damaged_record_is_an_error(content, run):
    (run / ".hydra" / "overrides.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"overrides\.yaml"):
        with_saved_overrides([f"resume={run}"])
