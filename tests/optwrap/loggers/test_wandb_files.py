import pytest

from optwrap.loggers.wandb_files import parts, rows


def test_parts_are_in_the_order_of_their_start_offline_or_not(tmp_path):
    names = ["offline-run-20260131_120002-0f", "run-20260131_120001-0f", "offline-run-20260131_120000-0f"]
    for name in [*names, "run-20260131_120000-ff"]:
        (tmp_path / "wandb" / name).mkdir(parents=True)
        (tmp_path / "wandb" / name / f"run-{name[-2:]}.wandb").touch()
    assert [path.parent.name for path in parts(tmp_path, "0f")] == names[::-1]


def test_a_file_that_a_kill_cut_short_has_the_rows_before(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "run-0f.wandb").write_bytes(b":W&B\xe1\xbe\x00" + b"\x00" * 5)
    assert list(rows(tmp_path / "run-0f.wandb")) == []
    (tmp_path / "run-0f.wandb").write_bytes(b":W&B\xe1\xbe\x00" + b"\x00\x00\x00\x00\x09\x00\x01half")
    assert list(rows(tmp_path / "run-0f.wandb")) == []
