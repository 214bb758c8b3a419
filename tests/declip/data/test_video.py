import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.data.video import opened_video, write_video

pytest.importorskip("av", reason="videos need PyAV (extra [video])")
ONE = 2**16
UPRIGHT = (ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30)  # of a track's header, by the MP4 format
TURNED = (0, ONE, 0, -ONE, 0, 0, 32 * ONE, 0, 2**30)  # a quarter turn with the clock


def test_frames_are_read_as_they_were_written(tmp_path):
    frames = [np.full((33, 48, 3), value, np.uint8) for value in (0, 90, 180)]
    assert write_video(frames, tmp_path / "x.mp4", rate=10) == 3
    with opened_video(tmp_path / "x.mp4") as (found, rate):
        read = list(found)
    assert rate == 10 and [frame.shape for frame in read] == [(32, 48, 3)] * 3
    for frame, expected in zip(read, frames, strict=True):
        assert abs(frame.astype(int) - expected[0, 0, 0]).max() <= 4


def test_frames_of_a_turned_camera_are_upright(tmp_path):
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16, :24] = 200  # the upper left, which a quarter turn with the clock takes to the upper right
    write_video([frame], tmp_path / "x.mp4")
    upright, turned = (np.array(matrix, ">i4").tobytes() for matrix in (UPRIGHT, TURNED))
    content = (tmp_path / "x.mp4").read_bytes()
    track = content.index(upright, content.index(b"tkhd"))
    (tmp_path / "x.mp4").write_bytes(content[:track] + turned + content[track + len(turned) :])
    with opened_video(tmp_path / "x.mp4") as (found, _):
        (read,) = found
    assert read.shape == (48, 32, 3) and read[:20, 20:].mean() > 180 and read[28:].mean() < 20


def test_a_video_of_no_frame_is_none(tmp_path):
    with pytest.raises(DataError, match="there is no frame for video"):
        write_video([], tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_what_is_no_video_is_refused(content, tmp_path):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"video .*x\.mp4 cannot be read"), opened_video(tmp_path / "x.mp4") as opened:
        list(opened[0])
