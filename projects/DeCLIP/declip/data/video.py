"""Frames of videos, by PyAV (extra ``[video]``).

Shape legend
    H, W  frame
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from d2host.engine.atomic import replacing
from d2host.engine.errors import ConfigError, DataError, in_brief

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Endings, in lower case, of the files that count as videos."""
RATE = Fraction(25)  # frames a second, of a video that does not say
EXTRA = "pip install 'av>=14.1,<19', or this project with its extra [video]"


@contextmanager
def opened_video(path: str | Path) -> Iterator[tuple[Iterator[np.ndarray], Fraction]]:
    """The frames of a video, H×W×3 uint8 RGB, upright, as they are asked for, and how many there are a second.

    Raises:
        ConfigError: PyAV is not installed.
        DataError: the file is no video.
    """
    av = _av()
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise DataError(f"video {path} holds no pictures: give another file")
            decoded = video.decode(video=0)
            # what a turned camera says of its frames is an angle to turn them by, against the clock
            frames = (np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)) for frame in decoded)
            yield frames, video.streams.video[0].average_rate or RATE
    except av.FFmpegError as error:
        raise DataError(f"video {path} cannot be read ({in_brief(error)}): give another file") from error


def write_video(frames: Iterable[np.ndarray], path: str | Path, rate: Fraction = RATE) -> int:
    """Write frames H×W×3 uint8 RGB of one size as a video (H.264, ``.mp4``), whole or not at all.

    A last row or column that would make a side odd, which the format does not have, is left out.

    Returns:
        The number of frames.

    Raises:
        ConfigError: PyAV is not installed.
        DataError: there is no frame.
        OutputError: the file cannot be written.
    """
    av, count = _av(), 0
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        for count, pixels in enumerate(frames, start=1):
            height, width = (max(side // 2 * 2, 2) for side in pixels.shape[:2])
            if count == 1:
                stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            video.mux(stream.encode(frame))
        if not count:
            raise DataError(f"there is no frame for video {path}: give a video that has some")
        video.mux(stream.encode())
    return count


def _av():
    try:
        import av
    except ImportError as error:
        raise ConfigError(f"videos need a package that is not installed ({error}): {EXTRA}") from error
    return av
