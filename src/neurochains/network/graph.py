"""The functional graph of a model: exported, made free of in-place operations, constants folded.

1. `torch.export` (non-strict, dynamic batch) follows the model on an example.
2. In-place operations (`relu_`, `add_` and friends) become `relu`, `add`; where one writes into a view, the exported
   program is decomposed, which is slower.
3. Parameters and buffers become attributes of one flat module; they share storage with the model's.
4. Batch norm is written back as one operation, so that it can be read as a part of its convolution; views become
   reshapes, so that the graph runs in any memory format.
5. What depends on constants alone (weight standardisation, position tables) is computed once.
"""

from __future__ import annotations

import operator
import re
import threading
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from neurochains.errors import ModelError, NeuroChainsError, TraceError, WeightsError
from neurochains.network.functional import drop_without_effect, is_functional, make_functional
from neurochains.network.info import model_info
from neurochains.network.nodes import is_learnt
from neurochains.network.quiet import quiet
from neurochains.network.stops import stopping_line

aten = torch.ops.aten

__all__ = ["export_graph"]

_ONE_AT_A_TIME = threading.RLock()
"""torch.export sets flags of the whole process, which two threads at a time would leave in disorder."""
_MOODY = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
_POSITIONS = re.compile(r"pos[a-z]*_emb")
_MOODY_NAMES = frozenset({"DropPath", "StochasticDepth"})


def export_graph(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the functional ATen graph of an eval-mode model: one tensor in, one tensor out.

    Args:
        model: maps ``(B, ...)`` to a tensor; its parameters are shared, never changed.
        example: ``(B, ...)`` as the model expects it, B at least 1; only its shape, type and device matter.

    Raises:
        ModelError: the model is in training mode and has dropout or batch norm.
        WeightsError: a parameter or buffer is not finite.
        TraceError: torch.export cannot follow the model; names the line it stopped at.
    """
    example = torch.cat([example, example])[:2] if len(example) < 2 else example[:2]
    _check_mode(model)
    _check_finite(model)
    with _ONE_AT_A_TIME:
        module = _functional_module(_exported(model, example))
    _free_views(module.graph)
    _restore_batch_norm(module.graph)
    _restore_copies(module.graph)
    _fold_constants(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.requires_grad_(False)


def _check_mode(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training and (isinstance(module, _MOODY) or type(module).__name__ in _MOODY_NAMES):
            raise ModelError(
                f"The model is in training mode: {name.removeprefix('model.')} ({type(module).__name__}) would answer "
                "differently each time. Call model.eval() first."
            )


def _check_finite(model: nn.Module) -> None:
    """Refuse weights that are not finite; a mask among the buffers may be infinite."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    masks = {name for name, _ in model.named_buffers() if "running_" not in name}
    for name, tensor in tensors:
        sound = ~torch.isnan(tensor) if name in masks else torch.isfinite(tensor)
        if not sound.all():
            raise WeightsError(
                f"{name.removeprefix('model.')} {tuple(tensor.shape)} holds NaN or infinite values: "
                "no output of this model means anything. Load sound weights."
            )


def _exported(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with quiet(), torch.no_grad():
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            return torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
    except NeuroChainsError:
        raise
    except Exception as error:  # torch.export raises dozens of kinds, the model its own
        raise TraceError(_trace_message(model, example, error)) from error


def _trace_message(model: nn.Module, example: Tensor, error: Exception) -> str:
    inner = type(getattr(model, "model", model)).__name__
    if "specialized it to be a constant" in str(error):
        return (
            f"{inner} fixes the number of images to the {len(example)} of the example. In its forward, write "
            "x.shape[0] or -1 instead of len(x) or of a number, and do not loop over the images."
        )
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        f"torch.export cannot follow {inner} on an input of shape {tuple(example.shape)}: {type(error).__name__}: "
        f"{reason}{stopping_line(error)}. {_size_hint(getattr(model, 'model', model), example)}; control flow that "
        "depends on pixel values must be written with tensor operations such as torch.where."
    )


def _size_hint(inner: nn.Module, example: Tensor) -> str:
    """Return what may be wrong with the shape of the example: a position embedding fits images of one size."""
    info = model_info(inner)
    size = info.preprocess.size if info and info.preprocess else None
    places = next((item for item in inner.state_dict().items() if _POSITIONS.search(item[0])), None)
    if places is None or size == tuple(example.shape[2:]):
        return "An input of another shape may be wanted"
    fits = f"images of {size[0]} x {size[1]} pixels" if size else "images of one size"
    return f"Its position embedding, {places[0]} {tuple(places[1].shape)}, fits {fits}"


def _functional_module(program: torch.export.ExportedProgram) -> fx.GraphModule:
    if not any(node.op == "get_attr" for node in program.graph.nodes):  # parts in a mode of their own, as autocast
        module = _unlifted(program)
        make_functional(module.graph)
        if is_functional(module.graph):
            return module
    with quiet(), torch.no_grad():
        return _unlifted(program.run_decompositions({}))


def _unlifted(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the program as one flat module whose buffers are the model's parameters, buffers and constants."""
    root = nn.Module()
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    constants: dict[str, fx.Node] = {}
    for node in program.graph.nodes:
        spec = specs.get(node.name) if node.op == "placeholder" else None
        if spec is not None and spec.kind is not InputKind.USER_INPUT and spec.target is not None:
            if spec.target not in constants:
                constants[spec.target] = _constant(graph, root, spec.target, _lifted(program, spec.target), node)
                constants[spec.target].meta["learnt"] = spec.kind is InputKind.PARAMETER
            copies[node] = constants[spec.target]
        elif node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    (result,) = program.graph_signature.user_outputs
    graph.output(next(copy for node, copy in copies.items() if node.name == result))
    drop_without_effect(graph)
    return fx.GraphModule(root, graph)


def _lifted(program: torch.export.ExportedProgram, name: str) -> Tensor:
    tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    assert isinstance(tensor, Tensor)
    return tensor


def _constant(graph: fx.Graph, root: nn.Module, name: str, tensor: Tensor, like: fx.Node) -> fx.Node:
    """Return a node that reads ``tensor``, kept as a buffer of the flat root."""
    flat = "w_" + re.sub(r"\W", "_", name.removeprefix("model."))
    while hasattr(root, flat):
        flat += "_"
    root.register_buffer(flat, tensor.detach())
    node = graph.get_attr(flat)
    node.meta = {**like.meta, "constant": name.removeprefix("model.")}
    return node


def _free_views(graph: fx.Graph) -> None:
    """Write views as reshapes, which work in every memory format."""
    for node in graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default


def _restore_batch_norm(graph: fx.Graph) -> None:
    target = aten._native_batch_norm_legit_no_training.default
    for node in [node for node in graph.nodes if node.target is target]:
        images, weight, bias, mean, variance, momentum, epsilon = node.args
        for use in list(node.users):
            assert use.target is operator.getitem
            with graph.inserting_before(use):
                args = (images, weight, bias, mean, variance, False, momentum, epsilon, False)
                norm = graph.call_function(aten.batch_norm.default, args)
            norm.meta = dict(use.meta)
            use.replace_all_uses_with(norm)
            graph.erase_node(use)
        graph.erase_node(node)


def _restore_copies(graph: fx.Graph) -> None:
    """Write ``copy(old, new)``, which has no derivative, as ``new`` in the shape and type of ``old``."""
    for node in [node for node in graph.nodes if node.target is aten.copy.default]:
        old, new = node.args[:2]
        with graph.inserting_before(node):
            typed = graph.call_function(aten.to.dtype, (new, old.meta["val"].dtype))
            shaped = graph.call_function(aten.expand_as.default, (typed, old))
        typed.meta, shaped.meta = {**node.meta, "val": new.meta["val"].to(old.meta["val"].dtype)}, dict(node.meta)
        node.replace_all_uses_with(shaped)
        graph.erase_node(node)


def _fold_constants(module: fx.GraphModule) -> None:
    """Compute once every tensor that depends on parameters and buffers alone."""
    values = _constant_values(module)
    for node in [node for node in values if node.op == "call_function" and isinstance(values[node], Tensor)]:
        if any(user not in values for user in node.users):
            with module.graph.inserting_before(node):
                folded = _constant(module.graph, module, f"folded_{node.name}", values[node], node)
            folded.meta["learnt"] = is_learnt(node)
            node.replace_all_uses_with(folded, delete_user_cb=lambda user: user not in values)


def _constant_values(module: fx.GraphModule) -> dict[fx.Node, Any]:
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif _is_foldable(node, values):
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    return values


def _is_foldable(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return False
    inputs = node.all_input_nodes
    return bool(inputs) and all(arg in values for arg in inputs)
