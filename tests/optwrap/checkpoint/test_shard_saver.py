"""Checkpoints in shards, saved and read by one process; tests/optwrap/distributed/test_shards.py has several."""

import os
import pickle
import shutil
import subprocess
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from optwrap.checkpoint.files import load
from optwrap.checkpoint.shard_saver import ShardSaver
from optwrap.errors import ConfigError
from optwrap.plan.ranks import ALONE
from tests.optwrap import forking

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def state(value=1.0, size=1000):
    weight = torch.full((size,), value)
    moments = {"step": torch.tensor(3.0), "exp_avg": weight.bfloat16(), "history": [weight[:3], weight[:0]]}
    return {
        "model": OrderedDict(weight=weight, count=torch.tensor(7), extra=None),
        "optim_wrapper": {"state": {"weight": moments}, "options": {"weight": {"lr": 0.1}}},
        "progress": {"at": value},
        "random": torch.arange(5),
    }


def saved(checkpoints, *values, asynchronous=False):
    """Save a state for each value, under updates counted from 1."""
    saver = ShardSaver(checkpoints, ALONE, asynchronous)
    paths = [saver.save(state(value), update, 0) for update, value in enumerate(values, start=1)]
    saver.ongoing.wait()
    return paths


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def equal(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    return True


@BOTH
def test_what_was_saved_comes_back(asynchronous, checkpoints):
    (path,) = saved(checkpoints, 2.0, asynchronous=asynchronous)
    assert names(checkpoints) == ["update_000001.pt", "update_000001.shards"]
    for each in (path, checkpoints.latest):
        loaded = load(each, CPU)
        assert equal(loaded, state(2.0))
        assert loaded["optim_wrapper"]["state"]["weight"]["exp_avg"].dtype == torch.bfloat16
    assert path.stat().st_size < 10_000 < (checkpoints.folder / "update_000001.shards/__0_0.distcp").stat().st_size


def test_one_in_the_background_holds_what_there_was_and_is_there_when_it_was_looked_for(checkpoints):
    saver, live = ShardSaver(checkpoints, ALONE, asynchronous=True), state(1.0, size=5_000_000)
    path = saver.save(live, 1, 0)
    live["model"]["weight"].zero_()
    live["optim_wrapper"]["state"]["weight"]["step"].zero_()
    live["progress"]["at"] = 0.0
    assert checkpoints.newest(CPU) is None
    while not path.exists():
        saver.ongoing.poll()
    found = checkpoints.newest(CPU)
    assert found[0] == path
    assert equal(found[1], state(1.0, size=5_000_000))


def test_the_next_save_waits_for_the_one_before(checkpoints):
    saver = ShardSaver(checkpoints, ALONE, asynchronous=True)
    first = saver.save(state(1.0), 1, 0)
    saver.save(state(2.0), 2, 0)
    assert load(first, CPU)["progress"] == {"at": 1.0}


def test_a_rank_reads_its_part_of_parameters_that_are_sharded(checkpoints):
    (path,) = saved(checkpoints, 1.0)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        like = {"weight": distribute_tensor(torch.zeros(1000), init_device_mesh("cpu", (1,)), [Shard(0)])}
        loaded = load(path, CPU, like)
        moments = loaded["optim_wrapper"]["state"]["weight"]
        for tensor, expected in (
            (loaded["model"]["weight"], torch.ones(1000)),
            (moments["exp_avg"], torch.ones(1000, dtype=torch.bfloat16)),
        ):
            assert isinstance(tensor, DTensor)
            assert tensor.placements == (Shard(0),)
            assert equal(tensor.to_local(), expected)
        assert not isinstance(moments["step"], DTensor)
    finally:
        dist.destroy_process_group()


@BOTH
def test_shards_live_as_long_as_a_file_names_them(asynchronous, checkpoints):
    saver = ShardSaver(checkpoints, ALONE, asynchronous)
    saver.ongoing.mark_best(saver.save(state(1.0), 1, 0))
    for update in (2, 3, 4):
        saver.save(state(update), update, 1)
    saver.ongoing.wait()
    kept = ["update_000003_1.pt", "update_000003_1.shards", "update_000004_1.pt", "update_000004_1.shards"]
    assert names(checkpoints) == ["best.pt", "update_000001.shards", *kept]
    assert equal(checkpoints.find("best", CPU)[1], state(1.0))
    saver.ongoing.mark_best(checkpoints.folder / "update_000004_1.pt")
    assert names(checkpoints) == ["best.pt", *kept]
    checkpoints.save({"whole": True}, 5, 0)
    checkpoints.save({"whole": True}, 6, 0)
    assert names(checkpoints) == [
        "best.pt", "update_000004_1.shards", "update_000005.pt", "update_000006.pt"
    ]  # fmt: skip


def test_what_a_killed_save_left_goes_with_the_next_one(checkpoints):
    saved(checkpoints, 1.0)
    for left in ("update_000002.shards.tmp", "update_000003.shards"):
        (checkpoints.folder / left).mkdir()
        (checkpoints.folder / left / "__0_0.distcp").write_bytes(b"half")
    (checkpoints.folder / "update_000002.pt.tmp").write_bytes(b"half")
    assert equal(checkpoints.newest(CPU)[1], state(1.0))
    ShardSaver(checkpoints, ALONE, asynchronous=False).save(state(2.0), 2, 0)
    assert names(checkpoints) == [
        "update_000001.pt", "update_000001.shards", "update_000002.pt", "update_000002.shards"
    ]  # fmt: skip
    assert equal(checkpoints.newest(CPU)[1], state(2.0))


def shard(path):
    return path.with_suffix(".shards") / "__0_0.distcp"


DAMAGES = {
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:3000]), "update_000002.shards/__0_0.distcp is"),
    "empty": (lambda file: file.write_bytes(b""), "update_000002.shards/__0_0.distcp is damaged"),
    "missing": (lambda file: file.unlink(), "update_000002.shards/__0_0.distcp is missing"),
    "without folder": (
        lambda file: file.parent.rename(file.parent.with_name("x")),
        "2.shards, which is not there",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_reported_and_the_checkpoint_before_used(damage, checkpoints, caplog):
    first, second = saved(checkpoints, 1.0, 2.0)
    act, said = DAMAGES[damage]
    act(shard(second))
    with pytest.raises(ConfigError, match="this is no readable checkpoint") as error:
        load(second, CPU)
    assert said in str(error.value)
    path, found = checkpoints.newest(CPU)
    assert path == first
    assert equal(found, state(1.0))
    assert "The one before it is used." in caplog.text
    ShardSaver(checkpoints, ALONE, asynchronous=False).save(state(3.0), 2, 0)  # the same update, made again
    assert equal(checkpoints.newest(CPU)[1], state(3.0))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_where_it_matters(place, bit, checkpoints):
    path = checkpoints.folder / "update_000001.pt"
    if not path.exists():
        saved(checkpoints, 1.0)
    whole = shard(path).read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= 1 << bit
    shard(path).write_bytes(content)
    try:
        equal(load(path, CPU), state(1.0))
    except ConfigError as error:
        if "no readable checkpoint" not in str(error):
            raise
    finally:
        shard(path).write_bytes(whole)


def test_a_flipped_bit_in_a_weight_is_found(checkpoints):
    (path,) = saved(checkpoints, 1.0)
    content = shard(path).read_bytes()
    ones = torch.ones(1000).numpy().tobytes()
    assert ones in content
    shard(path).write_bytes(content.replace(ones, b"\1" + ones[1:]))
    with pytest.raises(ConfigError, match="checksum"):
        load(path, CPU)


class Runs:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_the_metadata_of_torch_which_could_run_code_is_not_read(checkpoints, tmp_path):
    (path,) = saved(checkpoints, 1.0)
    metadata = shard(path).with_name(".metadata")
    assert metadata.exists()
    metadata.write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    assert equal(load(path, CPU), state(1.0))
    assert not (tmp_path / "ran").exists()


def changed(path, folder=None, **changes):
    """Change what the checkpoint's file says of one tensor's place."""
    content = torch.load(path, weights_only=True)
    offsets, sizes, file, start, length = content["shards"]["index"]["model/weight"][0]
    piece = {"offsets": offsets, "sizes": sizes, "file": file, "start": start, "length": length} | changes
    content["shards"]["index"]["model/weight"] = [tuple(piece.values())]
    content["shards"]["folder"] = folder or content["shards"]["folder"]
    torch.save(content, path)


def test_a_shard_that_holds_more_than_tensors_is_not_run(checkpoints, tmp_path):
    (path,) = saved(checkpoints, 1.0)
    hostile = shard(path).with_name("__1_0.distcp")
    torch.save(Runs(tmp_path / "ran"), hostile)
    changed(path, file=hostile.name, start=0, length=hostile.stat().st_size)
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        load(path, CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../elsewhere/__0_0.distcp"},
        {"folder": "../elsewhere"},
        {"sizes": [10]},
        {"sizes": [-1]},
        {"offsets": [500]},
        {"offsets": []},
        {"start": -1},
        {"start": 10**12},
        {"length": 10},
        {"file": 3},
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(changes, checkpoints):
    (path,) = saved(checkpoints, 1.0)
    shutil.copytree(shard(path).parent, checkpoints.folder.parent / "elsewhere")
    changed(path, **changes)
    with pytest.raises(ConfigError, match="no readable checkpoint"):
        load(path, CPU)


def test_a_full_disk_is_one_message_and_leaves_the_last_good_checkpoint(tmp_path):
    """In a process of its own, whose files may not grow beyond 100 kB."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from optwrap.errors import ConfigError
from optwrap.checkpoint.files import Checkpoints
from optwrap.plan.ranks import ALONE
from optwrap.checkpoint.shard_saver import ShardSaver
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path({str(tmp_path)!r})
checkpoints = Checkpoints(folder / "checkpoints", folder / "checkpoint.pt", keep=1)
for asynchronous in (False, True):
    saver = ShardSaver(checkpoints, ALONE, asynchronous)
    saver.save({{"model": {{"x": torch.ones(3)}}}}, 1, 0)
    saver.ongoing.wait()
    try:
        saver.save({{"model": {{"x": torch.zeros(100_000)}}}}, 2, 0)
        saver.ongoing.wait()
    except ConfigError as error:
        print(error)
"""
    done = subprocess.run([forking.python(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("update_000002.pt: the checkpoint cannot be written (File too large)") == 2
    assert done.stderr == ""
    left = sorted(path.suffix for path in (tmp_path / "checkpoints").iterdir())
    assert left == [".pt", ".shards"]
    assert equal(load(tmp_path / "checkpoint.pt", CPU), {"model": {"x": torch.ones(3)}})
