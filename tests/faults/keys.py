"""Every configuration key of every training, with values of other types and ranges than its default's."""

from catseg.keys import KEYS as SEGMENTATION
from declip.distill.config import KEYS as DISTILLATION
from nanoworld.pretraining.config import KEYS as PRETRAINING
from tests.faults.values import HUGE, Expected

TREES = {"train_net": SEGMENTATION, "train_declip": DISTILLATION, "nano/pretrain": PRETRAINING}
EITHER = ("-1", "0", "1", "7", HUGE, "-1e30", "1e-300", "1e30", "()", "''")
WRONG = ("ten", "[]", "{}", "nan", "1e400", "-1e400", "'nan'", "(1,", "b'x'", "1j")
BY_TYPE = {
    bool: (*WRONG, "2", "'True'"),
    int: (*WRONG, "1.5", "'1'", "True"),
    float: (*WRONG, "'1'", "True"),
    str: ("[]", "{}", "5", "1.5", "True", "(1,)", "1j"),
    tuple: ("5", "ten", "{}", "('a',)", "(None,)", "(1e400,)", "((1,),)", "nan"),
}
OF_ANOTHER_TYPE = {  # beside "auto"; a list of names, which a model that is named may not have
    *(
        ("MODEL.SEM_SEG_HEAD.TOKEN_CHUNK", "5"),
        ("MODEL.SEM_SEG_HEAD.RECOMPUTE", "True"),
        ("SOLVER.AMP.ENABLED", "True"),
        ("MODEL.DIFFUSION.LAYERS", "('a',)"),
    ),
}


def key_values(command):
    """(key, text, what should come of it) of a training's keys."""
    for key, default in ((key, declared.default) for key, declared in TREES[command].items()):
        if key == "VERSION":
            continue
        kind = tuple if isinstance(default, list | tuple) else type(default)
        if key == "OUTPUT_DIR":  # a name is a folder to make
            yield from ((key, text, Expected.REFUSED) for text in BY_TYPE[str])
            continue
        for text in BY_TYPE[kind]:
            yield key, text, Expected.EITHER if (key, text) in OF_ANOTHER_TYPE else Expected.REFUSED
        odd = ("''", "foo", "ünïcödé", "../foo", "/dev/null") if kind is str else EITHER
        if kind is tuple:
            odd = ("()", "(-1,)", "(-1,-1)", "(0,0)", "(7,7)", "(1,2,3)", "(-1,-1,-1)", f"({HUGE},{HUGE})", "(0.5,0.5)")
        if not key.startswith(("SOLVER.MAX_ITER", "DATALOADER.NUM_WORKERS")) or kind is not int:
            yield from ((key, text, Expected.EITHER) for text in odd)
        else:  # a large value is a long run, or many processes
            yield from ((key, text, Expected.REFUSED) for text in ("-1", "0" if "ITER" in key else "-7", "()", "''"))
    for node in ("MODEL", "SOLVER.AMP", "TEST"):
        yield from ((node, text, Expected.REFUSED) for text in ("5", "[]", "foo", "None"))
