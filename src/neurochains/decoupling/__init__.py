"""Network decoupling: controllers switch filters for each image, and what is on is the image's calculation path."""

from __future__ import annotations

from neurochains.decoupling.augment import CropFlip
from neurochains.decoupling.classifiers import CLASSIFIERS
from neurochains.decoupling.clusterable import Clusterability, clusterability, hopkins, two_groups
from neurochains.decoupling.concepts import Concepts, FilterConcept, find_concepts
from neurochains.decoupling.controller import Controller
from neurochains.decoupling.costs import PathCosts, path_costs
from neurochains.decoupling.decoupled import Answer, Decoupled, decouple, default_layers
from neurochains.decoupling.detection import Detection, DetectionRow, detect
from neurochains.decoupling.detection_features import FEATURES
from neurochains.decoupling.dynamic import DynamicNetwork
from neurochains.decoupling.losses import LossWeights, agreement_loss, information_loss, sparsity_loss
from neurochains.decoupling.paths import ClassUse, Paths, calculation_paths
from neurochains.decoupling.response import Response, lambda_response
from neurochains.decoupling.sources import ImageSource
from neurochains.decoupling.states import States, count_states, measure_states
from neurochains.decoupling.storage import bundled_names, load_decoupled, save_bundled
from neurochains.decoupling.training import EpochReport, TrainSettings, is_first_process, train_decoupled
from neurochains.decoupling.tree import DecisionNode, DecisionTree, decision_tree

__all__ = [
    "CLASSIFIERS",
    "FEATURES",
    "Answer",
    "ClassUse",
    "Clusterability",
    "Concepts",
    "Controller",
    "CropFlip",
    "DecisionNode",
    "DecisionTree",
    "Decoupled",
    "Detection",
    "DetectionRow",
    "DynamicNetwork",
    "EpochReport",
    "FilterConcept",
    "ImageSource",
    "LossWeights",
    "PathCosts",
    "Paths",
    "Response",
    "States",
    "TrainSettings",
    "agreement_loss",
    "bundled_names",
    "calculation_paths",
    "clusterability",
    "count_states",
    "decision_tree",
    "decouple",
    "default_layers",
    "detect",
    "find_concepts",
    "hopkins",
    "information_loss",
    "is_first_process",
    "lambda_response",
    "load_decoupled",
    "measure_states",
    "path_costs",
    "save_bundled",
    "sparsity_loss",
    "train_decoupled",
    "two_groups",
]
