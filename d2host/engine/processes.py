"""The processes of a run that are started here: watched, and ended together."""

import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from d2host.engine.endings import Terminated, answer, answered_by, postponed, raise_once
from d2host.engine.errors import DeclipError, LostProcessError, TrainingError

LOOK_PERIOD = 0.1  # seconds, at most, between looks at the processes and at the signals that have come
AFTER_INTERRUPT, AFTER_FAULT, AFTER_TERMINATION = 5.0, 5.0, 300.0  # seconds until what still runs is killed


class _Process:
    """One process of a run, and how it ended.

    Attributes:
        ending: what it raised, or what is to be said of its end; None while it runs, and after all went well.
        noted: when that was known, seconds.
    """

    def __init__(self, target: Callable, number: int, count: int, args: tuple) -> None:
        context = multiprocessing.get_context("spawn")
        self._reader, self._writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_report, args=(self._writer, target, number, args))
        self._name = f"process {number} of {count}"
        self.ending: BaseException | None = None
        self.noted = math.inf

    @property
    def sentinel(self) -> int:
        """What becomes ready when the process ends, for ``multiprocessing.connection.wait``."""
        return self._process.sentinel

    def start(self) -> None:
        """Start it; a signal at this moment reaches it, too, once it can answer."""
        with postponed():
            self._process.start()
        self._writer.close()

    def runs(self) -> bool:
        """Whether it still runs; its ending is noted as soon as there is one."""
        status = self._process.exitcode
        if self.ending is None:
            try:
                self.ending = self._reader.recv() if self._reader.poll() else self._unsaid(status)
            except (EOFError, OSError):  # it ended without a word, or in the middle of one
                self.ending = self._unsaid(status)
            self.noted = time.monotonic()
        return status is None

    def _unsaid(self, status: int | None) -> BaseException | None:
        if not status:
            return None
        if status > 0:
            return RuntimeError(f"{self._name} ended with status {status}: it has said why")
        name = signal.Signals(-status).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return TrainingError(f"{self._name} was killed by {name}{hint}: a training goes on with --resume")

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process.is_alive():
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.is_alive():
            self.ending = self.ending or LostProcessError(f"{self._name} did not end when it was asked to")
            self._process.kill()
        self._process.join()


def run_processes(target: Callable, count: int, args: tuple = ()) -> None:
    """Call ``target(number, *args)`` in ``count`` processes, and return when all have.

    An interrupt ends them within seconds, a fault of one the others, too. A termination is passed on: each may save
    before it ends.

    Raises:
        DeclipError: what a process raised, as the object it is, or the signal that killed one.
        RuntimeError: a defect, with the traceback of its process.
        KeyboardInterrupt: an interrupt, or a termination.
    """
    asked: list[int] = []
    processes = [_Process(target, number, count, args) for number in range(count)]
    started: list[_Process] = []
    with answered_by(lambda number, frame: asked.append(number)):
        try:
            for process in processes:
                process.start()
                started.append(process)
            _watch(processes, asked)
        finally:
            for process in started:
                process.kill()
    if signal.SIGINT in asked:
        raise KeyboardInterrupt
    by_time = sorted(processes, key=lambda process: process.noted)
    endings = [process.ending for process in by_time if process.ending is not None]
    if asked and not any(isinstance(ending, KeyboardInterrupt) for ending in endings):
        endings.append(Terminated())
    if endings:
        raise min(endings, key=_consequence)


def _watch(processes: list[_Process], asked: list[int]) -> None:
    """Wait until no process runs; signals that arrive in ``asked`` are passed on."""
    passed_on, deadline = 0, math.inf
    while running := [process for process in processes if process.runs()]:
        patience = math.inf
        if len(asked) > passed_on:
            passed_on = len(asked)
            number = signal.SIGTERM if asked == [signal.SIGTERM] else signal.SIGINT
            patience = AFTER_TERMINATION if number == signal.SIGTERM else AFTER_INTERRUPT
            for process in processes:
                process.send(number)
        elif any(isinstance(process.ending, Exception) for process in processes):
            patience = AFTER_FAULT
        deadline = min(deadline, time.monotonic() + patience)
        if time.monotonic() >= deadline:
            return
        wait([process.sentinel for process in running], LOOK_PERIOD)


def _consequence(ending: BaseException) -> int:
    """How likely another ending was the cause of this one."""
    if isinstance(ending, LostProcessError):
        return 2
    return 0 if isinstance(ending, Exception) else 1


def _report(writer: Connection, target: Callable, number: int, args: tuple) -> None:
    """In a started process: what a user can mend travels back as the object it is, anything else as its traceback."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    multiprocessing.set_start_method(None, force=True)  # of what it starts, processes that load: as in a single process
    try:
        answer(raise_once)
        target(number, *args)
        return
    except (DeclipError, KeyboardInterrupt, SystemExit, BrokenPipeError) as error:
        ending: BaseException = error
    except Exception:
        ending = RuntimeError(f"process {number} failed:\n{traceback.format_exc()}")
    with suppress(BrokenPipeError):  # the parent may be gone
        writer.send(ending)
    for child in multiprocessing.active_children():  # which load, and may not have got so far as to notice
        child.kill()
    raise SystemExit(1)


def _end_with_parent() -> None:
    """A run whose parent was killed saves what it can and ends, as if it was terminated."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
