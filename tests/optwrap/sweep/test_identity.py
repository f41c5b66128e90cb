import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from optwrap.sweep.identity import job_id

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.text("abcd", min_size=1), VALUES, max_size=5)


@given(CONFIGS)
def test_the_order_of_keys_and_hydra_itself_do_not_count(content):
    backwards = dict(reversed(content.items())) | {"hydra": {"job": {"num": 7}}}
    assert job_id(OmegaConf.create(content)) == job_id(OmegaConf.create(backwards))


@given(CONFIGS, CONFIGS)
def test_other_configs_have_other_identities(first, second):
    same = OmegaConf.create(first) == OmegaConf.create(second)
    if not same:
        assert job_id(OmegaConf.create(first)) != job_id(OmegaConf.create(second))


@pytest.mark.parametrize("key", ["logger", "data.root", "no.such.key"])
def test_keys_without_effect_do_not_count(key):
    cfg = OmegaConf.create({"seed": 1, "logger": "csv", "data": {"root": "here", "size": 3}})
    changed = OmegaConf.merge(cfg, {"logger": "none"} if key == "logger" else {"data": {"root": "there"}})
    assert (job_id(cfg, [key]) == job_id(changed, [key])) is (key != "no.such.key")


def test_interpolations_count_as_written():
    cfg = OmegaConf.create({"a": 1, "b": "${a}"})
    assert job_id(cfg) != job_id(OmegaConf.create({"a": 1, "b": 1}))
    assert job_id(OmegaConf.create({"b": "${no.such.key}"}))


def test_keys_of_several_types_have_an_identity():
    assert job_id(OmegaConf.create({"custom_keys": {1: "a", "x": "b"}}))


def test_the_resolver_takes_the_keys_as_its_arguments():
    text = "${optwrap.job_id:logger}"
    cfg = OmegaConf.create({"seed": 1, "logger": "csv", "hydra": {"subdir": text}})
    assert cfg.hydra.subdir == job_id(cfg, ["logger"])
    assert cfg.hydra.subdir != job_id(cfg)


@pytest.mark.parametrize("written", ["${oc.env:WID}", "w${ oc.env: WID , 8}", "${oc.decode:${oc.env:WID}}"])
def test_what_the_environment_says_makes_another_job(written, monkeypatch):
    cfg = OmegaConf.create({"model": {"width": written}})
    found = set()
    for value in ("8", "16", "8"):
        monkeypatch.setenv("WID", value)
        found.add(job_id(cfg))
    assert len(found) == 2


def test_an_environment_variable_of_a_key_without_effect_does_not_count(monkeypatch):
    cfg = OmegaConf.create({"data": {"root": "${oc.env:HOME}/data"}})
    before = job_id(cfg, ["data.root"])
    monkeypatch.setenv("HOME", "/elsewhere")
    assert job_id(cfg, ["data.root"]) == before
