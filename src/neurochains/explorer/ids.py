"""The ids of everything on the page that a callback reads or writes, each declared once."""

from __future__ import annotations

URL, SHELL, THEME, DESK = "url", "shell", "theme", "desk"
ALIVE, ALIVE_SINCE, TROUBLE = "alive", "alive-since", "trouble"
MEASURED, MADE, AGAIN, FOUND, PARTS = "measured", "made", "again", "found", "parts"

EXPRESSION, RUN, CANCEL, QUERY_SAID, HISTORY, HISTORY_SHOWN = (
    "expression", "run", "cancel", "query-said", "history", "history-shown",
)  # fmt: skip
NAMES, TARGET, CRITERION, NORMALISE, LAYERS, PROJECTION = (
    "names", "target", "criterion", "normalise", "layers", "projection",
)  # fmt: skip
FILTER_SHARE, FILTER_NUMBER, KERNEL_SHARE, KERNEL_NUMBER, COUNTS = (
    "filter-share", "filter-number", "kernel-share", "kernel-number", "counts",
)  # fmt: skip
WORKING = "working"

GRAPH, GRAPH_KIND, GRAPH_SAID, GRAPH_BOX, GRAPH_DRAWN, FULL, NODE_SIZE, KERNEL_SIZE = (
    "graph", "graph-kind", "graph-said", "graph-box", "graph-drawn", "full", "node-size", "kernel-size",
)  # fmt: skip
BOXED, BOXED_OFF, MARKS, SELECTED = "boxed", "boxed-off", "marks", "selected"
SAVE_CSV, SAVE_HTML, SAVED, PAGE_MADE = "save-csv", "save-html", "saved", "page-made"
SAVE_SVG, SAVE_PNG, SAVE_TABLES, SAVE_DONE = "save-svg", "save-png", "save-tables", "save-done"

PANEL, PANEL_OF = "panel", "panel-of"
FILTER_HEAD, FILTER_FIND, FILTER_MAP, FILTER_IMAGE, FILTER_RELU, FILTER_CELL, FILTER_CROPS, FILTER_KERNELS = (
    "filter-head", "filter-find", "filter-map", "filter-image", "filter-relu", "filter-cell", "filter-crops",
    "filter-kernels",
)  # fmt: skip
OBJECTIVE, VISUAL, PAINT, PAINT_STOP, PAINT_PROGRESS = "objective", "visual", "paint", "paint-stop", "paint-progress"
KERNEL_SHOWN, KERNEL_MATRIX = "kernel-shown", "kernel-matrix"
IMAGE_SET, IMAGE_STRIP, UPLOADED, DROP, IMAGE_SAID, IMAGE_SHOWN, IMAGE_BARS = (
    "image-set", "image-strip", "uploaded", "drop", "image-said", "image-shown", "image-bars",
)  # fmt: skip
ABLATION_BLOCKS, ABLATION_LIST, ABLATION_RESULT, UNDO, RESTORE, SAVE_CHAIN = (
    "ablation-blocks", "ablation-list", "ablation-result", "undo", "restore", "save-chain",
)  # fmt: skip
ABLATION_NEED, ABLATION_DONE, ABLATION_SCORES, ABLATION_WORKING, ABLATION_BARS = (
    "ablation-need", "ablation-done", "ablation-scores", "ablation-working", "ablation-bars",
)  # fmt: skip
CHAIN_PICK, CHAIN_SHOWN, CHAIN_NEED, CHAIN_DONE = "chain-pick", "chain-shown", "chain-need", "chain-done"
SUB_FIND, SUB_STOP, SUB_PROGRESS = "sub-find", "sub-stop", "sub-progress"
SUB_SHOWN, SUB_DONE, SUB_PAINTED, SUB_PLANE = "sub-shown", "sub-done", "sub-painted", "sub-plane"

FIGURES = (GRAPH, FILTER_MAP, KERNEL_MATRIX, IMAGE_BARS, ABLATION_BARS, SUB_PLANE)
"""What the browser draws; see `drawing`."""
