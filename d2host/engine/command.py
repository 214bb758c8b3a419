"""How a command line ends: well, with one sentence about what is wrong, or interrupted."""

import sys
from collections.abc import Callable

from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from d2host.engine.distributed import launch
from d2host.engine.errors import DeclipError, one_sentence

BAD_INPUT, INTERRUPTED = 2, 130


def run_command(main: Callable, args) -> None:
    """Launch ``main(args)`` in the processes that ``args`` asks for.

    Bad input ends the program with status 2 and one sentence on standard error, an interrupt with 130; anything else
    is a defect and keeps its traceback.
    """
    try:
        if getattr(args, "num_machines", 1) > 1:
            raise DeclipError("--num-machines is for Detectron2's own launcher: start several machines with torchrun")
        launch(main, args.num_gpus, (args,))
    except DeclipError as error:
        _stop(one_sentence(error), BAD_INPUT)
    except ProcessRaisedException as error:
        if "d2host.engine.errors." not in str(error).strip().splitlines()[-1]:
            raise
        _stop(one_sentence(error), BAD_INPUT)
    except (KeyboardInterrupt, ProcessException) as error:
        if isinstance(error, ProcessException) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        _stop("interrupted: a training goes on from its last checkpoint with --resume", INTERRUPTED)


def _stop(sentence: str, status: int) -> None:
    print(f"error: {sentence}" if status == BAD_INPUT else sentence, file=sys.stderr)
    sys.exit(status)
