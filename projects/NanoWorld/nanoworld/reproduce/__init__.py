"""The paper reproduced in the nano world: its tables computed again, and whether they show what the paper's show.

* :mod:`tables`: rows, as command-line options, and claims
* :class:`Runs` (:mod:`runs`): the command lines behind a row, each run once and remembered
* :mod:`report`: means and deviations over seeds, verdicts, Markdown and a plot; :mod:`comparison`: pictures
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["compare_predictions"],
        "report": ["Report"],
        "runs": ["SUBJECTS", "Runs", "Subject"],
        "tables": ["TABLES", "Claim", "Row", "RowKind", "Table"],
    },
)
