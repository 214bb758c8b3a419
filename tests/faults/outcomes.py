"""Running a case, and what came of it."""

import os
import re
import shutil
import signal
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import COMMANDS, ENDINGS
from tests.faults.values import Expected
from tests.faults.world import make_case
from tests.running import run_program

GOOD = ("clear error", "fine")
KINDS = (*GOOD, "traceback", "silent", "unclear", "wrongly refused", "written", "hang", "memory")
ERROR = re.compile(r"^(?:error: |[\w.]+(?: [\w-]+)?: error: ).", re.MULTILINE)  # of argparse: program, subcommand
LEFT_OVER = re.compile(r"(^|/)(log\.txt.*|config\.yaml|events\.out.*|metrics\.json)$")


class Hang(BaseException):
    """The time of a case is over."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: one of :data:`KINDS`, and a line that shows it."""

    kind: str
    detail: str = ""


def run_case(case, world, environment, folder, seconds=30):
    """Run a case in this process.

    Args:
        world: folder of :func:`tests.faults.world.make_world`. environment: what that returned.
        folder: of the case, which does not exist yet.
        seconds: after which it counts as hanging.
    """
    make_case(folder)
    for source, target in case.copies.items():
        copy = shutil.copytree if (world / source).is_dir() else shutil.copy
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        copy(world / source, folder / target)
    for name, make in case.files.items():
        place = min(folder.glob(name)) if "*" in name else folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make(world))
    if "data" in case.copies:
        environment = {**environment, "DETECTRON2_DATASETS": str(folder / "data")}
    place = {"world": str(world), "case": str(folder)}
    arguments = [_placed(argument, place) for argument in case.arguments]
    before = _files(folder), _files(world)
    try:
        with _alarm(seconds):
            result = run_program(_placed(COMMANDS[case.command].path, place), *arguments, env=environment,
                                 cwd=folder / "cwd")  # fmt: skip
    except Hang:
        return Outcome("hang", f"longer than {seconds} s")
    except MemoryError as error:
        return Outcome("memory", _last_line(error))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Outcome("traceback", _last_line(error))
    after = _files(folder), _files(world)
    lost = [
        name
        for old, new in zip(before, after, strict=True)
        for name in old
        if old[name] != new.get(name) and not (name.endswith("log.txt") and new.get(name, ()) > old[name])  # it grows
    ]
    new = [name for name in after[0] if name not in before[0] and not LEFT_OVER.search(name)]
    return judge(case, result, lost, new)


def judge(case, result, lost, new):
    """The outcome of a program that ended.

    Args:
        lost: files that were there before and are not as they were. new: files that were not.
    """
    said = result.stdout + result.stderr
    errors = ERROR.findall(result.stderr)
    last = (result.stderr.strip().splitlines() or [""])[-1]
    if "Traceback (most recent call last)" in said:
        return Outcome("traceback", said.strip().splitlines()[-1])
    if result.returncode == 0 or ENDINGS.get(case.command, "\0") in last:
        if case.expected is Expected.REFUSED:
            return Outcome("silent", f"status {result.returncode}")
        return Outcome("fine")
    if result.returncode != 2 or len(errors) != 1 or not ERROR.match(last):
        return Outcome("unclear", f"status {result.returncode}: {last}")
    if case.expected is Expected.FINE:
        return Outcome("wrongly refused", last)
    torn = [name for name in (*lost, *new) if ".part" in name]
    if lost or torn or (new and case.expected is Expected.REFUSED):
        return Outcome("written", f"{(lost or torn or new)[0]}: {last}")
    return Outcome("clear error", last)


def _placed(text, place):
    return re.sub(r"\{(world|case)\}", lambda match: place[match[1]], text)


def _files(folder):
    """Path below ``folder`` → (size, time of change) of every file but caches and locks."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("cache", "class_embeddings")]
        for name in names:
            if name.endswith(".lock"):
                continue
            path = Path(parent, name)
            status = path.lstat()
            found[str(path.relative_to(folder))] = status.st_size, status.st_mtime_ns
    return found


@contextmanager
def _alarm(seconds):
    def ring(*_):
        raise Hang

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def _last_line(error):
    """The exception and the project's own line that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if re.search(r"/(d2host|declip|catseg|nanoworld|tools|datasets)/", frame.filename)
    ]
    ours = [frame for frame in ours if "site-packages" not in frame.filename]
    place = f" ({'/'.join(Path(ours[-1].filename).parts[-2:])}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"
