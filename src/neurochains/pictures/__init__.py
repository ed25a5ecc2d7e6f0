"""Pictures: results in, pictures and figures out. Nothing here reads a file, and only `save_figure` writes one.

`smoe` and its normalisations make saliency maps, `overlay` lays a map over its image, `visualise` paints what a filter
answers to, `top_crops` finds it in the data. `architecture_figure`, `chain_figure`, `smoe_figure` and the figures of
measures return matplotlib figures; `svg`, `png` and `data_uri` turn them into text and bytes for a page.
"""

from neurochains.pictures.architecture import architecture_figure, strongest_edges
from neurochains.pictures.attribution import attribution, row_normalised
from neurochains.pictures.chains_figure import ChainRow, Sample, chain_figure, chain_table
from neurochains.pictures.circuit_figures import (
    CircuitPicture,
    circuit_figure,
    correlation_figure,
    revisualisation_figure,
)
from neurochains.pictures.circuit_visuals import revisualise, visualise_circuit
from neurochains.pictures.compare_figures import (
    comparison_figures,
    layer_overlap_figure,
    overlap_figure,
    shared_figure,
)
from neurochains.pictures.crops import Box, Crop, crop_around, outline, top_crops
from neurochains.pictures.decoupling_figures import ResponseRow, frequency_figure, response_figure, states_figure
from neurochains.pictures.detection_figures import concepts_figure, cross_attack_figure, detection_figure
from neurochains.pictures.encode import data_uri, jpeg, png
from neurochains.pictures.figures import save_figure, svg
from neurochains.pictures.heatmap import colorize, overlay, upsample
from neurochains.pictures.measures import Measure, controls_figure, drop_figure, parting_figure, per_image_figure
from neurochains.pictures.patches_figure import PatchRow, patches_figure
from neurochains.pictures.path_figures import class_distance_figure, class_use_figure, paths_figure, plane_figure
from neurochains.pictures.smoe import combine, gamma_norm, gauss_norm, lovi, lovi_heat, range_norm, smoe
from neurochains.pictures.smoe_figure import SmoeRow, smoe_figure
from neurochains.pictures.study_figures import (
    Share,
    curves_figure,
    effect_figure,
    histogram_figure,
    palette,
    scatter_figure,
    shares_figure,
)
from neurochains.pictures.subfeature_figures import layer_subfeatures_figure, subfeature_figure
from neurochains.pictures.subfeature_visuals import SubFeatureVisuals, visualise_subfeatures
from neurochains.pictures.tree_figure import tree_figure
from neurochains.pictures.view import ArchitectureView, Bypass, Column, Edge
from neurochains.pictures.visualise import MapsOf, Visualisation, visualise

__all__ = [
    "ArchitectureView",
    "Box",
    "Bypass",
    "ChainRow",
    "CircuitPicture",
    "Column",
    "Crop",
    "Edge",
    "MapsOf",
    "Measure",
    "PatchRow",
    "ResponseRow",
    "Sample",
    "Share",
    "SmoeRow",
    "SubFeatureVisuals",
    "Visualisation",
    "architecture_figure",
    "attribution",
    "chain_figure",
    "chain_table",
    "circuit_figure",
    "class_distance_figure",
    "class_use_figure",
    "colorize",
    "combine",
    "comparison_figures",
    "concepts_figure",
    "controls_figure",
    "correlation_figure",
    "crop_around",
    "cross_attack_figure",
    "curves_figure",
    "data_uri",
    "detection_figure",
    "drop_figure",
    "effect_figure",
    "frequency_figure",
    "gamma_norm",
    "gauss_norm",
    "histogram_figure",
    "jpeg",
    "layer_overlap_figure",
    "layer_subfeatures_figure",
    "lovi",
    "lovi_heat",
    "outline",
    "overlap_figure",
    "overlay",
    "palette",
    "parting_figure",
    "patches_figure",
    "paths_figure",
    "per_image_figure",
    "plane_figure",
    "png",
    "range_norm",
    "response_figure",
    "revisualisation_figure",
    "revisualise",
    "row_normalised",
    "save_figure",
    "scatter_figure",
    "shared_figure",
    "shares_figure",
    "smoe",
    "smoe_figure",
    "states_figure",
    "strongest_edges",
    "subfeature_figure",
    "svg",
    "top_crops",
    "tree_figure",
    "upsample",
    "visualise",
    "visualise_circuit",
    "visualise_subfeatures",
]
