"""The kinds of trouble a user can run into, one exception each.

Every message is one sentence that names what is wrong, where (file, key, class), and what to do about it.
The command lines print that sentence and exit; a library user catches :class:`DeclipError` or a subclass.
"""


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


def one_sentence(error: BaseException) -> str:
    """The sentence of an error, also where a worker process has wrapped it into the text of its traceback."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return last.removeprefix("d2host.engine.errors.").split("Error: ", 1)[-1] if len(lines) > 1 else last
