"""What a sub-network is worth: fidelity, size and speed, controls of the same size, faithfulness of its scores."""

from __future__ import annotations

from neurochains.measures.controls import CONTROLS, Control, control, map_sizes, measure_controls
from neurochains.measures.faithfulness import Correlation, LeaveOneOut, correlate, leave_one_out
from neurochains.measures.fidelity import Fidelity, PerImage, Quotients, measure_outputs, quotient
from neurochains.measures.sizes import Seconds, Sizes, measure_inference, measure_parity, measure_sizes
from neurochains.measures.summary import measure_chain
from neurochains.measures.tasks import (
    TaskFidelity,
    TaskOutputs,
    compare_tasks,
    measure_fidelity,
    run_scores,
    run_task,
)

__all__ = [
    "CONTROLS",
    "Control",
    "Correlation",
    "Fidelity",
    "LeaveOneOut",
    "PerImage",
    "Quotients",
    "Seconds",
    "Sizes",
    "TaskFidelity",
    "TaskOutputs",
    "compare_tasks",
    "control",
    "correlate",
    "leave_one_out",
    "map_sizes",
    "measure_chain",
    "measure_controls",
    "measure_fidelity",
    "measure_inference",
    "measure_outputs",
    "measure_parity",
    "measure_sizes",
    "quotient",
    "run_scores",
    "run_task",
]
