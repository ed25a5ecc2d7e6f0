"""Pictures: results in, pictures and figures out. Nothing here reads a file, and only `save_figure` writes one.

`smoe` and its normalisations make saliency maps, `overlay` lays a map over its image, `visualise` paints what a filter
answers to, `top_crops` finds it in the data. `architecture_figure`, `chain_figure`, `smoe_figure` and the figures of
measures return matplotlib figures; `svg`, `png` and `data_uri` turn them into text and bytes for a page.
"""

from neurochains.pictures.architecture import architecture_figure, strongest_edges
from neurochains.pictures.chains_figure import ChainRow, Sample, chain_figure, chain_table
from neurochains.pictures.crops import Box, Crop, outline, top_crops
from neurochains.pictures.encode import data_uri, jpeg, png
from neurochains.pictures.figures import save_figure, svg
from neurochains.pictures.heatmap import colorize, overlay, upsample
from neurochains.pictures.measures import Measure, controls_figure, drop_figure, parting_figure, per_image_figure
from neurochains.pictures.smoe import combine, gamma_norm, gauss_norm, lovi, lovi_heat, range_norm, smoe
from neurochains.pictures.smoe_figure import SmoeRow, smoe_figure
from neurochains.pictures.view import ArchitectureView, Bypass, Column, Edge
from neurochains.pictures.visualise import MapsOf, Visualisation, visualise

__all__ = [
    "ArchitectureView",
    "Box",
    "Bypass",
    "ChainRow",
    "Column",
    "Crop",
    "Edge",
    "MapsOf",
    "Measure",
    "Sample",
    "SmoeRow",
    "Visualisation",
    "architecture_figure",
    "chain_figure",
    "chain_table",
    "colorize",
    "combine",
    "controls_figure",
    "data_uri",
    "drop_figure",
    "gamma_norm",
    "gauss_norm",
    "jpeg",
    "lovi",
    "lovi_heat",
    "outline",
    "overlay",
    "parting_figure",
    "per_image_figure",
    "png",
    "range_norm",
    "save_figure",
    "smoe",
    "smoe_figure",
    "strongest_edges",
    "svg",
    "top_crops",
    "upsample",
    "visualise",
]
