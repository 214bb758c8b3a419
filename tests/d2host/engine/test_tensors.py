import os
import warnings
import zipfile

import pytest
import torch

from d2host.engine.checkpoint_file import load_run, load_weights
from d2host.engine.errors import CheckpointError
from d2host.engine.tensors import check_state_dict, load_pickled

SHAPE = (4, 6)


def poisoned(value):
    tensor = torch.randn(SHAPE)
    tensor[2, 3] = value
    return tensor


IMPOSSIBLE = {
    "nan": poisoned(float("nan")),
    "inf": poisoned(float("inf")),
    "-inf": poisoned(float("-inf")),
    "nan in half": poisoned(float("nan")).half(),
    "inf in bfloat16": poisoned(float("inf")).bfloat16(),
    "nan in double": poisoned(float("nan")).double(),
    "zeros": torch.zeros(SHAPE),
    "ones": torch.ones(SHAPE),
    "zeros in four dimensions": torch.zeros(1, 4, 3, 2),
    "empty": torch.zeros(0, 6),
    "integers": torch.arange(24).view(SHAPE),
    "booleans": torch.randn(SHAPE) > 0,
    "complex": torch.randn(SHAPE, dtype=torch.complex64),
    "sparse": torch.randn(SHAPE).to_sparse(),
    "without data": torch.empty(SHAPE, device="meta"),
    "repeated row": torch.randn(1, 6).expand(SHAPE),
    "a billion of one number": torch.randn(()).expand(40_000, 50_000),
    "windows": torch.randn(9).as_strided(SHAPE, (1, 1)),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # these are no longer, or not yet, torch's ordinary tensors
    IMPOSSIBLE |= {
        "compressed sparse": torch.randn(SHAPE).to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(torch.randn(SHAPE), 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.randn(2), torch.randn(3)]),
    }


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_tensor_that_no_model_can_have_is_refused_by_file_and_name(name):
    state = {"bias": torch.randn(6), "proj": IMPOSSIBLE[name]}
    with pytest.raises(CheckpointError, match=r"clip\.pt cannot be used, proj "):
        check_state_dict(state, "clip.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_ordinary_tensors_pass_as_they_are(dtype):
    state = {
        "proj": torch.randn(SHAPE).to(dtype),
        "turned": torch.randn(SHAPE).to(dtype).T,
        "norm.weight": torch.ones(6, dtype=dtype),
        "norm.bias": torch.zeros(6, dtype=dtype),
        "cls_token": torch.zeros(1, 1, 6, dtype=dtype),
        "logit_scale": torch.tensor(4.6, dtype=dtype),
        "num_batches_tracked": torch.tensor(3),
        "position_ids": torch.arange(6).expand(1, 6),
        "attn_mask": torch.full((4, 4), float("-inf")).triu(1),
    }
    assert check_state_dict(state, "clip.pt") == state


def test_what_starts_at_zero_may_stay_there():
    own = {"offsets.weight": torch.zeros(SHAPE)}
    assert check_state_dict(own, "run.pth", own) == own
    with pytest.raises(CheckpointError, match=r"offsets\.weight of shape \(4, 6\) is 0 throughout"):
        check_state_dict(own, "run.pth", {"offsets.weight": torch.randn(SHAPE)})


NO_STATE_DICTS = {
    "none": None,
    "a number": 3,
    "a text": "weights",
    "a list": [torch.randn(3)],
    "a tensor": torch.randn(3),
    "nothing": {},
    "nested": {"visual": {"proj": torch.randn(3)}},
    "a value beside tensors": {"proj": torch.randn(3), "epoch": 3},
    "a null beside tensors": {"proj": torch.randn(3), "bias": None},
    "numbers as names": {0: torch.randn(3)},
    "no names": {None: torch.randn(3)},
    "a name of several lines": {"visual.proj\nerror: none": torch.randn(3)},
    "an endless name": {"x" * 10_000: torch.randn(3)},
    "tuples as names": {("visual", "proj"): torch.randn(3)},
}


@pytest.mark.parametrize("name", NO_STATE_DICTS)
@pytest.mark.parametrize("load", [load_run, load_weights])
def test_what_is_no_state_dict_is_refused_by_every_door(name, load, tmp_path):
    with pytest.raises(CheckpointError, match=r"clip\.pt holds no state dict of tensors"):
        check_state_dict(NO_STATE_DICTS[name], "clip.pt")
    torch.save({"model": NO_STATE_DICTS[name], "training": {}}, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match=r"run\.pth"):
        load(tmp_path / "run.pth", torch.nn.Linear(6, 4))
    torch.save(NO_STATE_DICTS[name], tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth"):
        load(tmp_path / "bare.pth", torch.nn.Linear(6, 4))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [each for each in IMPOSSIBLE if each not in ("nested", "quantized", "without data")])
def test_a_run_with_such_a_tensor_is_not_resumed(name, tmp_path):
    training = {"iteration": 1, "optimizer": {}, "scaler": {}, "generators": []}
    content = {"model": {"weight": IMPOSSIBLE[name], "bias": torch.randn(4)}, "training": training}
    torch.save(content, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match=r"run\.pth.*weight"):
        load_run(tmp_path / "run.pth", torch.nn.Linear(6, 4))


def repacked(source, target, change=lambda name, content: content, compression=zipfile.ZIP_STORED):
    """An archive of ``torch.save`` again, its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


@pytest.fixture
def archive(tmp_path):
    torch.save({"proj": torch.randn(4, 6)}, tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def test_compressed_archives_are_read(archive):
    packed = repacked(archive, archive.with_name("packed.pth"), compression=zipfile.ZIP_DEFLATED)
    assert torch.equal(load_pickled(packed)["proj"], load_pickled(archive)["proj"])


def test_an_archive_that_unpacks_to_far_more_than_it_holds_is_refused_before_that(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new, new.open("a/data/0", "w") as member:
        for _ in range(64):
            member.write(bytes(2**20))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(CheckpointError, match=r"bomb\.pth unpacks to 67,108,864 bytes, far more than its own size"):
        load_pickled(tmp_path / "bomb.pth")


def test_tensors_larger_than_what_the_archive_holds_are_refused(archive):
    """Older versions of torch compare the two nowhere: they would read beyond the end of the buffer."""

    def claim(name, content):
        return content.replace(b"K\x18tq", b"J\x00\x00\x00\x10tq") if name.endswith("data.pkl") else content

    with pytest.raises(CheckpointError, match=r"claims\.pth (describes larger tensors|cannot be read .*size)"):
        load_pickled(repacked(archive, archive.with_name("claims.pth"), claim))


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path, place):
    torch.save({"proj": torch.randn(400, 600)}, tmp_path / "large.pth")
    content = bytearray((tmp_path / "large.pth").read_bytes())
    content[int(place * len(content))] ^= 4
    (tmp_path / "large.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"large\.pth is damaged \(the checksum"):
        load_pickled(tmp_path / "large.pth")


def test_encrypted_archives_are_refused(archive):
    content = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + flags] |= 1
            start = content.find(signature, start + 4)
    archive.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"plain\.pth cannot be read .*encrypted"):
        load_pickled(archive)


class Buffer:
    def __reduce__(self):
        return bytearray, (8 * 10**9,)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_that_asks_for_memory_is_refused_before_it_gets_any(tmp_path, zipped):
    torch.save({"proj": Buffer()}, tmp_path / "buffer.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"buffer\.pth cannot be read \(it makes a buffer of any size"):
        load_pickled(tmp_path / "buffer.pth")


@pytest.mark.parametrize("zipped", [False, True])
def test_what_a_pickle_would_call_is_named(tmp_path, zipped):
    torch.save({"proj": print}, tmp_path / "calls.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"calls\.pth cannot be read \(Unsupported global: GLOBAL .*print"):
        load_pickled(tmp_path / "calls.pth")


@pytest.mark.parametrize("depth", [1, 40])
def test_containers_within_containers_are_walked_once(tmp_path, depth):
    """Forty lists, each holding the one before it twice, have 2^40 places."""
    content = [torch.randn(3)]
    for _ in range(depth):
        content = [content, content]
    torch.save(content, tmp_path / "lists.pth")
    assert isinstance(load_pickled(tmp_path / "lists.pth"), list)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for name in ("pipe.pth", "gone.pth", "."):
        with pytest.raises(CheckpointError, match="is no file"):
            load_pickled(tmp_path / name)
