"""The kinds of trouble a user can run into, one exception each.

Every message is one sentence that names what is wrong, where (file, key, class), and what to do about it. The command
lines print that sentence and exit; a library user catches :class:`DeclipError` or a subclass. They pass from worker
processes to the one that waits for them as the objects they are (:mod:`d2host.engine.distributed`,
:mod:`d2host.engine.loading`).

>>> raise ConfigError("SOLVER.MAX_ITER is 0: it must be at least 1")
Traceback (most recent call last):
d2host.engine.errors.ConfigError: SOLVER.MAX_ITER is 0: it must be at least 1
"""

import os


class DeclipError(Exception):
    """Base of every error the project raises about its input."""


class ConfigError(DeclipError, ValueError):
    """A configuration that cannot work: unknown name, impossible value, missing file."""


class DataError(DeclipError):
    """A dataset, image, label or class list that is missing, unreadable or inconsistent."""


class CheckpointError(DeclipError):
    """A weight file that is missing, corrupt, unsafe or made for another model."""


class TrainingError(DeclipError):
    """A training run that cannot go on, such as one whose loss is no longer finite."""


class LostProcessError(TrainingError):
    """Another process of the run has ended, so that this one cannot go on; the other says why."""


def in_brief(error: BaseException) -> str:
    """What a library says of an error, on one line and at most 200 characters long, or else the error's kind.

    >>> in_brief(RuntimeError("PytorchStreamReader failed:\\n  no central directory"))
    'PytorchStreamReader failed: no central directory'
    """
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."


class OutputError(DeclipError, OSError):
    """A file that cannot be written: a full disk, no permission, something else in its place."""

    @classmethod
    def of(cls, path: str | os.PathLike, error: Exception) -> "OutputError":
        """The sentence for what the system said.

        >>> raise OutputError.of("output/results.md", OSError(28, "No space left on device"))
        Traceback (most recent call last):
        d2host.engine.errors.OutputError: output/results.md could not be written (No space left on device): free disk \
space or choose another place
        """
        reason = getattr(error, "strerror", None) or str(error)
        culprit = str(getattr(error, "filename", None) or "")
        if culprit and not os.path.basename(culprit).startswith("."):  # the hidden one is our own beside it
            reason += f": {culprit}"
        return cls(f"{os.fspath(path)} could not be written ({reason}): free disk space or choose another place")
