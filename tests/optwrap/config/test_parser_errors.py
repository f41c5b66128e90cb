import pytest
from omegaconf import OmegaConf

from optwrap.checkpoint.saved import load_config
from optwrap.config.parser_errors import PARSER_ERRORS, load_bounded
from optwrap.config.resuming import with_saved_overrides
from optwrap.errors import ConfigError
from tests.optwrap.cases import one_in

BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
HUGE = {
    "aliases": BOMB,
    "merge keys": BOMB + "b: {<<: {c: *a29}}\n",
    "an alias in itself": "a: &a [*a]\n",
    "depth": "a: " + "[" * 3000 + "]" * 3000,
    "interpolations": "a0: xxxxxxxxxx\n" + "".join(f"a{i}: ${{a{i - 1}}}${{.a{i - 1}}}\n" for i in range(1, 40)),
    "bytes": "a: " + "x" * 2**20,
}


@pytest.mark.parametrize("text", one_in(2, list(HUGE.values()), list(HUGE)))
def test_a_file_beyond_the_bounds_is_refused_at_once(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PARSER_ERRORS):
        load_bounded(tmp_path / "x.yaml")
    (tmp_path / ".hydra").mkdir()
    for name in ("config.yaml", "overrides.yaml"):
        (tmp_path / ".hydra" / name).write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: .*can be read"):
        load_config(tmp_path, [])
    with pytest.raises(ConfigError, match=r"overrides\.yaml cannot be read"):
        with_saved_overrides([f"resume={tmp_path}"])


@pytest.mark.slow
def test_an_override_of_three_thousand_brackets_is_one_short_message(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(f"- '+a={'[' * 3000}{']' * 3000}'\n")
    with pytest.raises(ConfigError, match="which is no override") as refusal:
        with_saved_overrides([f"resume={tmp_path}"])
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("text", ["", "a: 1\nb: [1, 2]\n", "- x\n", "base: &b {x: 1}\nother: {<<: *b, y: 2}\n"])
def test_what_is_within_the_bounds_is_read_as_ever(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    assert load_bounded(tmp_path / "x.yaml") == OmegaConf.load(tmp_path / "x.yaml")
