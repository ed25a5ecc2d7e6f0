"""Studies: many cases after one plan, run on processes or a cluster, with tables and figures."""

from __future__ import annotations

from neurochains.studies.cases import Case, count_cases, expand
from neurochains.studies.estimate import Estimate, estimate
from neurochains.studies.plan import Plan, read_plan
from neurochains.studies.plots import plot_study
from neurochains.studies.progress import StudyProgress
from neurochains.studies.run import MANY, StudyRun, run_study
from neurochains.studies.summary import summarise
from neurochains.studies.tables import Study, read_study

__all__ = [
    "MANY",
    "Case",
    "Estimate",
    "Plan",
    "Study",
    "StudyProgress",
    "StudyRun",
    "count_cases",
    "estimate",
    "expand",
    "plot_study",
    "read_plan",
    "read_study",
    "run_study",
    "summarise",
]
