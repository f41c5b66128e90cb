import pytest
from omegaconf import OmegaConf

from optwrap.config.trusted import only_trusted
from optwrap.errors import ConfigError


def check(target, packages=("optwrap.vision", "torch.nn", "experiments"), **others):
    cfg = OmegaConf.create({"model": {"_target_": target, **others}, "root": "torch"})
    return only_trusted(cfg, ["model"], packages)


@pytest.mark.parametrize("target", ["optwrap.vision.SmallCNN", "torch.nn.Linear", "experiments.gan.DCGAN"])
def test_what_lies_in_a_trusted_package_passes(target):
    assert check(target).model._target_ == target


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
