from pathlib import Path

import pytest
from omegaconf import OmegaConf

from optwrap.config import help as help_page
from optwrap.config.train_schema import TrainConfig


def test_group_lines_name_every_option_with_its_first_comment(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("# a tiny model\nwidth: 1\n")
    (tmp_path / "model" / "silent.yaml").write_text("width: 2\n")
    (tmp_path / "hydra").mkdir()
    lines = list(help_page.group_lines(tmp_path, {"model": "tiny"}))
    assert lines == ["model  (now: tiny)", "  silent", "  tiny    a tiny model"]


def test_key_lines_show_the_value_of_this_config_and_what_it_is_for() -> None:
    cfg = OmegaConf.structured(TrainConfig(epochs=3))
    lines = "\n".join(help_page.key_lines(cfg))
    assert "  epochs=3 " in lines
    assert "max_updates=null" in lines
    assert "compile=false" in lines
    assert "Samples in a micro-batch, over all processes." in lines
    assert "optim_wrapper" not in lines


@pytest.mark.parametrize("text", ["", "width: 1\n", "# \n"])
def test_missing_comment_is_an_empty_string(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert help_page.first_comment(tmp_path / "x.yaml") == ""
