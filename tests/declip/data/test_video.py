import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.data.video import opened_video, write_video

pytest.importorskip("av", reason="videos need PyAV (extra [video])")


def test_frames_are_read_as_they_were_written(tmp_path):
    frames = [np.full((33, 48, 3), value, np.uint8) for value in (0, 90, 180)]
    assert write_video(frames, tmp_path / "x.mp4", rate=10) == 3
    with opened_video(tmp_path / "x.mp4") as (found, rate):
        read = list(found)
    assert rate == 10 and [frame.shape for frame in read] == [(32, 48, 3)] * 3
    for frame, expected in zip(read, frames, strict=True):
        assert abs(frame.astype(int) - expected[0, 0, 0]).max() <= 4


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_what_is_no_video_is_refused(content, tmp_path):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"video .*x\.mp4 cannot be read"), opened_video(tmp_path / "x.mp4") as opened:
        list(opened[0])
