"""Command lines: the options of a training, and how a program ends: well, with one sentence, or interrupted.

Nothing here imports torch, so that ``--help`` answers at once; programs import what they need in ``main``.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable

from d2host.engine.arguments import processes
from d2host.engine.distributed import launch
from d2host.engine.endings import Terminated, answered_by, raise_once
from d2host.engine.errors import DeclipError

BAD_INPUT, INTERRUPTED, OUTPUT_CLOSED, TERMINATED = 2, 130, 141, 143


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The options of a training that users of Detectron2 know.

    >>> argument_parser().parse_args(["--config-file", "nano.yaml", "--resume", "SEED", "3"]).opts
    ['SEED', '3']
    """
    parser = argparse.ArgumentParser(epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="path or bare name of a config")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the output directory")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, or the last checkpoint")
    parser.add_argument("--num-gpus", type=processes, default=1, help="processes on this machine, one GPU each")
    for option in ("--num-machines", "--machine-rank", "--dist-url"):
        parser.add_argument(option, type=_several_machines, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE pairs, last on the line")
    return parser


def _several_machines(text: str) -> None:
    """The kind of Detectron2's options for several machines: refused, with what to use instead."""
    raise argparse.ArgumentTypeError("this is for Detectron2's own launcher: start several machines with torchrun")


def run_command(main: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Call ``main(args)`` in the ``args.num_gpus`` processes that are asked for (default: in this one).

    Bad input ends the program with status 2 and one sentence on standard error, an interrupt with 130, a termination
    (SIGTERM) with 143, and a reader of the output that has gone away, as ``head`` does, silently with 141; anything
    else is a defect and keeps its traceback.
    """
    os.environ["MPLBACKEND"] = "agg"  # no figure needs a window, so none is looked for
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may not fit the encoding of the terminal
    try:
        with answered_by(raise_once):
            launch(main, getattr(args, "num_gpus", 1), (args,))
            if sys.stdout is not None:
                sys.stdout.flush()
            return
    except DeclipError as error:
        status, sentence = BAD_INPUT, f"error: {error}"
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        status = TERMINATED if terminated else INTERRUPTED
        how = "terminated" if terminated else "interrupted"
        sentence = f"{how}: {str(error) or 'a training goes on from its last checkpoint with --resume'}"
        if int(os.environ.get("RANK", 0)):
            sentence = ""  # it came to all processes of torchrun
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status, sentence = OUTPUT_CLOSED, ""
    if sentence:
        print(" ".join(sentence.splitlines()), file=sys.stderr)  # names and parsers' messages may hold line breaks
    sys.exit(status)  # outside of the clauses: what the error held is let go, loading processes among it
