import functools
import gzip
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from torchvision.datasets import MNIST
from torchvision.datasets.utils import calculate_md5

from optwrap.errors import ConfigError
from optwrap.vision.download import fetch


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def archives(tmp_path, write_mnist, monkeypatch):
    """A folder of MNIST's four archives, served on this machine, their checksums made known to torchvision."""
    raw = write_mnist(tmp_path / "source") / "MNIST" / "raw"
    folder = tmp_path / "archives"
    folder.mkdir()
    for path in raw.iterdir():
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    names = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(MNIST, "resources", [(name, calculate_md5(folder / name)) for name in names])
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()


def test_missing_files_are_downloaded_into_root_and_nothing_else_is_left(archives, tmp_path):
    root = tmp_path / "data"
    (images, labels), (test_images, _) = fetch(MNIST, root)
    assert images.shape == (40, 1, 28, 28)
    assert len(labels) == 40
    assert len(test_images) == 10
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    assert len(list((root / "MNIST" / "raw").iterdir())) == 4


def test_a_folder_that_is_nearly_one_that_is_there_is_a_slip(archives, tmp_path):
    (tmp_path / "datasets").mkdir()
    with pytest.raises(
        ConfigError, match=r"data.root=.*/dataset: there is no such folder. Did you mean 'datasets'"
    ):
        fetch(MNIST, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_download_that_breaks_off_leaves_nothing_and_a_second_try_works(archives, tmp_path):
    root = tmp_path / "data"
    hidden = tmp_path / "hidden"
    shutil.move(archives / "train-labels-idx1-ubyte.gz", hidden)
    with pytest.raises(ConfigError):
        fetch(MNIST, root)
    assert list(root.iterdir()) == []
    shutil.move(hidden, archives / "train-labels-idx1-ubyte.gz")
    assert len(fetch(MNIST, root)[0][0]) == 40


def test_a_file_cut_short_is_replaced_by_the_download(archives, mnist_root):
    images = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    assert len(fetch(MNIST, mnist_root)[0][0]) == 40


def test_a_root_below_a_folder_that_is_not_there_is_a_slip_and_makes_none(archives, tmp_path):
    with pytest.raises(ConfigError, match=r"data.root=.*/typo/data: neither this folder nor .*/typo is there"):
        fetch(MNIST, tmp_path / "typo" / "data")
    assert not (tmp_path / "typo").exists()


def test_what_a_download_is_made_for_is_said_before_it(archives, tmp_path, caplog):
    with caplog.at_level("INFO"):
        fetch(MNIST, tmp_path / "dta")
    assert caplog.messages == [f"data.root={tmp_path / 'dta'}: no such folder yet; downloading MNIST there"]


def test_archives_that_lie_in_root_are_unpacked_without_network(archives, tmp_path, no_network):
    raw = tmp_path / "data" / "MNIST" / "raw"
    shutil.copytree(archives, raw)
    assert len(fetch(MNIST, tmp_path / "data")[0][0]) == 40
