"""Circuits: importance of filters and kernels, queries, subgraphs of a feature, and its sub-features."""

from __future__ import annotations

from neurochains.circuits.budget import CircuitSettings
from neurochains.circuits.bundle import Bundle
from neurochains.circuits.circuit import Circuit, KeptKernel, load_circuit
from neurochains.circuits.clusters import cluster_patches, mixed_labels, purity
from neurochains.circuits.criteria import CRITERIA, Criterion
from neurochains.circuits.edges import Edges
from neurochains.circuits.find import METHODS, circuit, circuits_by_size
from neurochains.circuits.importance import Importance, importance, load_importance
from neurochains.circuits.measured import Measured
from neurochains.circuits.patches import Patches, top_patches
from neurochains.circuits.prepare import plan, prepare
from neurochains.circuits.problem import Agreement, Problem, agreement
from neurochains.circuits.projections import embed
from neurochains.circuits.query import QueryResult, query
from neurochains.circuits.ranking import RANKINGS
from neurochains.circuits.readouts import read_target
from neurochains.circuits.sparsity import SPARSITY, dead_kernels, hierarchical_group_sparsity
from neurochains.circuits.subfeature_circuits import answers_kept, subfeature_circuit
from neurochains.circuits.subfeature_results import (
    LayerSubFeatures,
    SubFeatures,
    load_layer_subfeatures,
    load_subfeatures,
)
from neurochains.circuits.subfeatures import layer_subfeatures, subfeatures
from neurochains.circuits.targets import Target
from neurochains.circuits.thresholds import hierarchical
from neurochains.circuits.validation import SIZES, Comparison, circuits_or_none, compare_methods

__all__ = [
    "CRITERIA",
    "METHODS",
    "RANKINGS",
    "SIZES",
    "SPARSITY",
    "Agreement",
    "Bundle",
    "Circuit",
    "CircuitSettings",
    "Comparison",
    "Criterion",
    "Edges",
    "Importance",
    "KeptKernel",
    "LayerSubFeatures",
    "Measured",
    "Patches",
    "Problem",
    "QueryResult",
    "SubFeatures",
    "Target",
    "agreement",
    "answers_kept",
    "circuit",
    "circuits_by_size",
    "circuits_or_none",
    "cluster_patches",
    "compare_methods",
    "dead_kernels",
    "embed",
    "hierarchical",
    "hierarchical_group_sparsity",
    "importance",
    "layer_subfeatures",
    "load_circuit",
    "load_importance",
    "load_layer_subfeatures",
    "load_subfeatures",
    "mixed_labels",
    "plan",
    "prepare",
    "purity",
    "query",
    "read_target",
    "subfeature_circuit",
    "subfeatures",
    "top_patches",
]
