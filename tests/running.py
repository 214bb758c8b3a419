"""Command lines run in this process, as far as possible as in one of their own."""

import contextlib
import io
import logging
import os
import random
import runpy
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch

from d2host import setup_logger

several_processes = pytest.mark.skipif(
    torch.cuda.device_count() == 1, reason="one GPU serves one process: set CUDA_VISIBLE_DEVICES= to run these on CPUs"
)


def run_program(program, *arguments, env=None, cwd="."):
    """Run a program in this process and return what a process of its own would have left.

    Arguments, environment, working directory and output are the program's own; generators, the number of threads and
    loggers are afterwards as they were. What ends a program by a traceback is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(_state_kept())
        stack.enter_context(mock.patch.dict(os.environ, env or {}))
        stack.enter_context(mock.patch.object(sys, "argv", [str(program), *map(str, arguments)]))
        stack.callback(os.chdir, os.getcwd())
        os.chdir(cwd)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        torch.set_num_threads(1)
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _state_kept():
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, benchmark, disabled = torch.get_num_threads(), torch.backends.cudnn.benchmark, logging.root.manager.disable
    before = {logger: (logger.handlers[:], logger.level, logger.propagate) for logger in _loggers()}
    for logger in before:  # a handler of earlier code writes to an output of its own
        logger.handlers = []
    getattr(setup_logger, "cache_clear", int)()  # Detectron2's sets a logger up once in a process
    try:
        yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        logging.disable(disabled)
        for logger in _loggers():
            handlers, logger.level, logger.propagate = before.get(logger, ([], logging.NOTSET, True))
            for handler in logger.handlers:
                handler.close()
            logger.handlers = handlers


def _loggers():
    known = logging.root.manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]
