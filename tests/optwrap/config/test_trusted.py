import pytest
from omegaconf import OmegaConf

from optwrap.config.trusted import only_trusted
from optwrap.errors import ConfigError

TRUSTED = [
    *("torch.nn.Linear", "torch.nn.modules.linear.Linear", "torch.nn.functional.relu", "torch.nn.Sequential"),
    *("torch.optim.SGD", "torch.optim.lr_scheduler.OneCycleLR", "torch.optim.swa_utils.AveragedModel"),
    *("torchvision.models.resnet18", "torchvision.models.resnet.resnet18", "torchvision.models.get_model"),
    *("torchvision.models.ResNet", "torchvision.models.detection.ssd300_vgg16"),
    "torchvision.ops.FrozenBatchNorm2d",
    *("torchvision.transforms.Compose", "torchvision.transforms.v2.RandomCrop", "torchvision.transforms.ToTensor"),
    *("torchmetrics.Accuracy", "torchmetrics.classification.MulticlassF1Score", "torchmetrics.MetricCollection"),
    *("optwrap.vision.SmallCNN", "optwrap.vision.models.SmallCNN", "optwrap.vision.cifar10"),
    "optwrap.vision.image_folder",
    *("optwrap.optim.AmpOptimWrapper", "optwrap.optim.warmup_cosine", "experiments.gan.DCGAN"),
    "optwrap.hooks.EarlyStopping",
    *("optwrap.loggers.TensorBoardLogger", "optwrap.loggers.WandbLogger"),
]
HOSTILE = [
    *("torch.load", "torch.hub.load", "torch.serialization.load", "torch.package.PackageImporter"),
    *("torch.nn.Module.load_state_dict", "torch.nn.utils.parametrize.torch.load", "torch.optim.Optimizer.step"),
    "torchvision.models._api.WeightsEnum.get_state_dict",
    "torchvision.models._api.Weights",
    "torchvision.models._api.load_state_dict_from_url",
    "torchvision.models.ResNet18_Weights",
    "torchvision.models.resnet._resnet",
    "torchvision.models.resnet._ovewrite_named_param",
    "torchvision.transforms.functional.sys.modules",
    "torchvision.datasets.DatasetFolder",
    *("torchmetrics.text.BLEUScore", "torchmetrics.functional.accuracy", "torchmetrics.image.TotalVariation"),
    *("optwrap.vision.download.fetch", "optwrap.vision.download.shutil.rmtree", "optwrap.optim.write_csv"),
    *("optwrap.hooks.lr_finder.logging.shutdown", "optwrap.hooks.hooks.build_hooks"),
    *(
        "optwrap.checkpoint.files.save",
        "optwrap.instantiate.locate",
        "optwrap.loggers.nodes.locate",
        "experiments.vit_layer_decay.locate",
    ),
    *("os.system", "subprocess.run", "builtins.eval", "pickle.load", "hydra.utils.get_method", "numpy.load"),
]


def check(target, packages=("optwrap.vision", "torch.nn", "experiments"), **others):
    cfg = OmegaConf.create({"model": {"_target_": target, **others}, "root": "torch"})
    return only_trusted(cfg, ["model"], packages)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.hub.load",
        "torch.load",
        "optwrap.checkpoint.files.save",
        "optwrap.vision.download.shutil.rmtree",  # a trusted path to what another package defines
        "torch.nn.modules.module.functools.partial",
        "torch.nn",
        "optwrap.vision_of_mine.Net",
        "${root}.hub.load",
    ],
)
def test_anything_else_is_refused_before_it_is_imported(target):
    with pytest.raises(ConfigError, match=r"model\._target_=.*(allow=|no such class)"):
        check(target)


@pytest.mark.parametrize("target", TRUSTED)
def test_what_a_run_is_made_of_passes_by_name(target):
    cfg = OmegaConf.create({"model": {"_target_": target}, "data": {"source": target}})
    assert only_trusted(cfg, ["model", "data"]) == cfg


@pytest.mark.parametrize("target", HOSTILE)
def test_what_loads_or_runs_what_it_is_given_is_refused_as_target_and_as_text(target):
    for node in ({"_target_": target}, {"source": target}, {"list": [{"source": target}]}):
        with pytest.raises(ConfigError, match=r"model.*=.*(allow=|no such class)"):
            only_trusted(OmegaConf.create({"model": node}), ["model"])


@pytest.mark.parametrize(
    "text", ["backbone.layer0", "torch", "train.csv", "a b.c", "torch.nn", "experiments.gan", "1.5", "a..b", "x/y"]
)
def test_other_texts_are_data(text):
    cfg = OmegaConf.create({"model": {"_target_": "torch.nn.Linear", "note": text}})
    assert only_trusted(cfg, ["model"]) == cfg


def test_a_text_that_leads_to_code_in_the_folder_of_a_run_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "outputs_x" / "foreign"
    folder.mkdir(parents=True)
    (folder / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for text in ("outputs_x.foreign.json", "outputs_x.foreign.json.loads"):
        with pytest.raises(ConfigError, match="allow=outputs_x"):
            only_trusted(OmegaConf.create({"data": {"source": text}}), ["data"])
    assert not (tmp_path / "ran").exists()
    only_trusted(OmegaConf.create({"data": {"source": "outputs_x.other.best"}}), ["data"])


def test_targets_are_found_wherever_they_nest():
    with pytest.raises(ConfigError, match=r"model\.parts\[0\]\.x\._target_=os\.system"):
        check("torch.nn.Linear", parts=[{"x": {"_target_": "os.system"}}])


def test_nothing_untrusted_is_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_package.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="allow=evil_package"):
        check("evil_package.Net")
    assert not (tmp_path / "ran").exists()


def test_a_package_can_be_added():
    assert check("collections.Counter", ("collections",)).model._target_ == "collections.Counter"


def test_a_value_that_cannot_be_resolved_is_an_error():
    with pytest.raises(ConfigError, match="cannot be read"):
        only_trusted(OmegaConf.create({"model": "${nowhere}"}), ["model"])
