"""What a sub-network is worth: fidelity, size and speed, controls, faithfulness, stability, locality, robustness.

`MEASURES` names the measures of the papers' analyses; `compare` holds chains of one network against each other, and
`planted` makes networks whose true circuit is known.
"""

from __future__ import annotations

from neurochains.measures.baselines import Baselines, measure_baselines
from neurochains.measures.cases import MEASURES
from neurochains.measures.compare import Compared, Comparison, compare
from neurochains.measures.controls import CONTROLS, Control, control, map_sizes, measure_controls
from neurochains.measures.faithfulness import Correlation, LeaveOneOut, correlate, leave_one_out
from neurochains.measures.fidelity import Fidelity, PerImage, Quotients, measure_outputs, quotient
from neurochains.measures.intervals import Interval, bootstrap, interval_of_mean
from neurochains.measures.locality import Locality, measure_locality
from neurochains.measures.maps import Maps, measure_maps
from neurochains.measures.planted import Planted, planted, planted_names
from neurochains.measures.planted_truth import Recovery, Truth, average_precision
from neurochains.measures.quotients import ChainQuotients, measure_quotients
from neurochains.measures.removal import Removal, measure_removal
from neurochains.measures.robustness import Robustness, measure_robustness
from neurochains.measures.size_fidelity import SizeFidelity, measure_size_fidelity
from neurochains.measures.sizes import Seconds, Sizes, measure_inference, measure_parity, measure_sizes
from neurochains.measures.stability import Stability, measure_stability
from neurochains.measures.summary import measure_chain
from neurochains.measures.tasks import (
    TaskFidelity,
    TaskOutputs,
    compare_tasks,
    measure_fidelity,
    run_scores,
    run_task,
)
from neurochains.measures.variation import (
    Seeds,
    Variation,
    against_the_rest,
    measure_classes,
    measure_gates,
    measure_samples,
    measure_seeds,
)

__all__ = [
    "CONTROLS",
    "MEASURES",
    "Baselines",
    "ChainQuotients",
    "Compared",
    "Comparison",
    "Control",
    "Correlation",
    "Fidelity",
    "Interval",
    "LeaveOneOut",
    "Locality",
    "Maps",
    "PerImage",
    "Planted",
    "Quotients",
    "Recovery",
    "Removal",
    "Robustness",
    "Seconds",
    "Seeds",
    "SizeFidelity",
    "Sizes",
    "Stability",
    "TaskFidelity",
    "TaskOutputs",
    "Truth",
    "Variation",
    "against_the_rest",
    "average_precision",
    "bootstrap",
    "compare",
    "compare_tasks",
    "control",
    "correlate",
    "interval_of_mean",
    "leave_one_out",
    "map_sizes",
    "measure_baselines",
    "measure_chain",
    "measure_classes",
    "measure_controls",
    "measure_fidelity",
    "measure_gates",
    "measure_inference",
    "measure_locality",
    "measure_maps",
    "measure_outputs",
    "measure_parity",
    "measure_quotients",
    "measure_removal",
    "measure_robustness",
    "measure_samples",
    "measure_seeds",
    "measure_size_fidelity",
    "measure_sizes",
    "measure_stability",
    "planted",
    "planted_names",
    "quotient",
    "run_scores",
    "run_task",
]
