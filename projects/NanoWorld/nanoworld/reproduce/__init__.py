"""The paper in miniature: its tables recomputed in the nano world, and whether they show what the paper's show.

* :mod:`tables`: rows, as command-line options, and claims
* :class:`Runs` (:mod:`runs`): the command lines behind a row, each run once and remembered
* :mod:`report`: means and deviations over seeds, verdicts, Markdown and a plot; :mod:`comparison`: pictures
"""

from nanoworld.reproduce.comparison import compare_predictions
from nanoworld.reproduce.report import Report
from nanoworld.reproduce.runs import Runs
from nanoworld.reproduce.tables import TABLES, Claim, Row, RowKind, Table

__all__ = ["TABLES", "Claim", "Report", "Row", "RowKind", "Runs", "Table", "compare_predictions"]
