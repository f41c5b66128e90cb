import pytest
import yaml
from omegaconf import OmegaConf

from optwrap.config.resuming import with_saved_overrides
from optwrap.config.saved_overrides import check_composed
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


def test_a_checkpoint_stands_for_its_run(run):
    (run / "checkpoint.pt").touch()
    assert with_saved_overrides([f"resume={run}/checkpoint.pt"])[-1] == f"resume={run}"


def test_a_folder_below_home_is_found(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert with_saved_overrides([f"resume=~/{run.name}"])[-1] == f"resume={run}"


def test_a_folder_may_have_any_name(run):
    folder = run / "dépôt (a)=,[b]{}~#&!;'"
    (run / ".hydra").rename(run / "saved")
    folder.mkdir()
    (run / "saved").rename(folder / ".hydra")
    assert with_saved_overrides([f"resume={folder}"])[-1] == f'resume="{folder}"'


@pytest.mark.parametrize("arguments", [["epochs=5"], ["resume=auto", "epochs=5"], ["resume=null"], ["--help"]])
def test_without_a_folder_nothing_is_added(arguments):
    assert with_saved_overrides(arguments) == arguments


@pytest.mark.parametrize("content", ["{", "x: 1", "- {a: 1}", "\x00", "${a}"])
def test_a_damaged_record_is_an_error(content, run):
    (run / ".hydra" / "overrides.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"overrides\.yaml"):
        with_saved_overrides([f"resume={run}"])


def hostile(run, override):
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["epochs=3", override]))


@pytest.mark.parametrize(
    "override",
    [
        "task._target_=os.system",
        "+task.metric={_target_: builtins.eval, source: 1}",
        "model={_target_: torch.nn.Sequential, parts: [{_target_: torch.hub.load}]}",
        "++schedule.lr._target_='subprocess.run'",
        "model._target_=optwrap.vision.download.shutil.rmtree",
        "model._target_=${data.name}",
        'model=${oc.create:"{_target_: os.system}"}',
        "+a={b: '${oc.decode:${data.name}}'}",
        "model=${${data.name}:x}",
        "experiment=../../foreign/evil",
        "optim_wrapper=[sgd,../../foreign/evil]",
        "experiment=/path/evil",
        "optim_wrapper=[sgd,/path/evil]",
        "optim_wrapper/generator=/path/evil",
        "schedule=file:///path/evil",
        "model='C:\\\\evil'",
        "experiment='..\\\\evil'",
        "data.source=torch.load",
        "data={_target_: experiments.vit_layer_decay.some_classes, source: torch.load, f: x, weights_only: false}",
        "model._target_=torchvision.models._api.WeightsEnum.get_state_dict",
        "+model.weights={_target_: torchvision.models._api.Weights, url: 'https://evil', transforms: x, meta: {}}",
        "optim_wrapper.constructor=torch.hub.load",
        "--config-dir=foreign",
        "--multirun",
    ],
)
def test_a_run_from_elsewhere_names_no_code_and_no_config_of_its_own(override, run):
    hostile(run, override)
    with pytest.raises(ConfigError) as refusal:
        with_saved_overrides([f"resume={run}"])
    assert str(refusal.value).startswith(f"resume={run}: ")


@pytest.mark.parametrize(
    "override",
    ["hydra.callbacks.x._target_=os.system", "hydra/launcher=joblib", "+model@hydra.callbacks.x=small_cnn"],
)
def test_what_hydra_itself_was_told_is_not_taken(override, run):
    hostile(run, override)
    assert with_saved_overrides([f"resume={run}"]) == ["epochs=3", f"resume={run}"]


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=torch.nn.Linear",
        "optim_wrapper.optimizer={_target_: torch.optim.SGD, lr: 1}",
        "data.root=../data",
        "data_root=/scratch/data",
        "data_root=../data",
        "data={_target_: optwrap.vision.mnist, root: /scratch/../data}",
        "experiment=quick/gan",
        "optim_wrapper/generator=[adam,amp]",
        "optim_wrapper.constructor=optwrap.optim.LayerDecayOptimWrapperConstructor",
        "data.source=optwrap.vision.digits",
        "+note=a.b",
        "data.root=${oc.env:HOME}/data",
        "model.width=${data.channels}",
    ],
)
def test_what_is_harmless_is_taken(override, run):
    hostile(run, override)
    assert override in with_saved_overrides([f"resume={run}"])


def test_what_is_refused_can_be_typed_again(run):
    hostile(run, "task._target_=mine.Task")
    arguments = ["task._target_=mine.Task", f"resume={run}"]
    assert with_saved_overrides(arguments) == ["epochs=3", *arguments]


def composed(**nodes):
    return OmegaConf.create({"resume": "outputs/x", **nodes})


@pytest.mark.parametrize(
    "nodes",
    [
        {"a": "torch", "model": {"source": "${a}.load"}},
        {"a": "load", "data": {"parts": [{"_target_": "torch.${a}"}]}},
        {"a": "download.shutil.rmtree", "data": {"_target_": "optwrap.vision.${a}"}},
    ],
)
def test_overrides_that_only_together_name_code_are_refused_in_what_is_composed_of_them(nodes):
    with pytest.raises(ConfigError, match=r"resume=outputs/x: .*hydra.run.dir=outputs/x resume=auto"):
        check_composed(composed(**nodes), ["a=x"], "outputs/x")
    check_composed(composed(**nodes), [], "outputs/x")  # all of it was typed, or is the user's own


def test_what_the_users_own_configs_spell_out_goes_on():
    check_composed(composed(model={"_target_": "mine.Net", "norm": "mine.Norm"}), ["epochs=3"], "outputs/x")
    check_composed(composed(a="Net", model={"_target_": "experiments.gan.${.b}", "b": "DCGAN"}), ["a=1"], "x")
