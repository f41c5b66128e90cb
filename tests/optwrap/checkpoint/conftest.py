import pytest

from optwrap.checkpoint.files import Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return Checkpoints(folder / "checkpoints", folder / "checkpoint.pt", keep=2)
