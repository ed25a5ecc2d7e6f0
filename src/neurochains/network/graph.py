"""The functional graph of a model: exported, made free of in-place operations, constants folded.

1. `torch.export` (non-strict, dynamic batch) follows the model on an example.
2. The exported program is made functional (`relu_`, `add_` and friends become `relu`, `add`).
3. Parameters and buffers become attributes of one flat module; they share storage with the model's.
4. What depends on constants alone (weight standardisation, position tables) is computed once.
5. Batch norm is written back as one operation, so that it can be read as a part of its convolution.
"""

from __future__ import annotations

import operator
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from neurochains.errors import DataError, ModelError, TraceError, WeightsError

aten = torch.ops.aten

__all__ = ["constant_name", "export_graph", "is_constant", "module_path", "node_shape", "output_node", "tensor_inputs"]

_RANDOM = frozenset({aten.rand.default, aten.randn.default, aten.rand_like.default, aten.bernoulli.default})


def export_graph(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the functional ATen graph of an eval-mode model: one tensor in, one tensor out.

    Args:
        model: maps ``(B, ...)`` to a tensor; its parameters are shared, never changed.
        example: ``(B, ...)`` as the model expects it; only its shape, type and device matter.

    Raises:
        ModelError: the model is in training mode and has dropout or batch norm.
        WeightsError: a parameter or buffer is not finite.
        TraceError: torch.export cannot follow the model; names the line it stopped at.
    """
    _check_mode(model)
    _check_finite(model)
    program = _functional_program(model, _at_least_two(example))
    module = _unlift(program)
    _single_output(module.graph)
    _restore_batch_norm(module.graph)
    _fold_constants(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.requires_grad_(False)


def node_shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of one node's tensor with batch 1; ``()`` when it is no tensor."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return ()
    return tuple(_batch_one(size) for size in value.shape)


def module_path(node: fx.Node) -> tuple[str, str]:
    """Return the dotted path and the class name of the module that a node was called in."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = list(stack.values())[-1] if stack else ("", "")
    path = re.sub(r"@\d+$", "", str(path))
    return path.removeprefix("model").removeprefix("."), str(kind).rsplit(".", 1)[-1]


def is_constant(value: Any) -> bool:
    """Return whether an argument is no node at all, or a parameter or buffer."""
    return not isinstance(value, fx.Node) or value.op == "get_attr"


def constant_name(node: fx.Node) -> str:
    """Return the name that a parameter or buffer node has in the user's model."""
    return str(node.meta.get("constant", node.target))


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the computed (not constant, not symbolic) tensors, or lists of them, that a node reads."""
    kinds = (Tensor, tuple, list)
    return [arg for arg in node.all_input_nodes if arg.op != "get_attr" and isinstance(arg.meta.get("val"), kinds)]


def output_node(graph: fx.Graph) -> fx.Node:
    """Return the node whose value the graph gives back."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    result = output.args[0]
    while isinstance(result, (tuple, list)):
        (result,) = result
    assert isinstance(result, fx.Node)
    return result


def _batch_one(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _check_mode(model: nn.Module) -> None:
    moody = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    for name, module in model.named_modules():
        if module.training and isinstance(module, moody):
            raise ModelError(
                f"The model is in training mode: {name.removeprefix('model.')} ({type(module).__name__}) would answer "
                "differently each time. Call model.eval() first."
            )


def _check_finite(model: nn.Module) -> None:
    for name, tensor in _named_tensors(model):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{name.removeprefix('model.')} {tuple(tensor.shape)} holds NaN or infinite values: "
                "no output of this model means anything. Load sound weights."
            )


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _at_least_two(example: Tensor) -> Tensor:
    if not isinstance(example, Tensor) or example.ndim < 2:
        came = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise DataError(f"An example is a batch of images (B, C, H, W); got {came}.")
    return torch.cat([example, example])[:2] if len(example) < 2 else example[:2]


def _functional_program(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
            return program.run_decompositions({})
        except Exception as error:  # torch.export raises dozens of kinds
            raise TraceError(_trace_message(model, example, error)) from error


def _trace_message(model: nn.Module, example: Tensor, error: Exception) -> str:
    inner = getattr(model, "model", model)
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"torch.export cannot follow {type(inner).__name__} on an input of shape {tuple(example.shape)}: "
        f"{type(error).__name__}: {reason}{_culprit(error)}. Control flow that depends on pixel values, and sizes "
        "fixed to one batch size, must be written with tensor operations."
    )


def _culprit(error: Exception) -> str:
    """Return the line of the user's model at which the export stopped, as ``" at file.py:12: code"``."""
    named = re.findall(r'File "([^"]+)", line (\d+), in \w+\n\s+(.+)', str(error))
    frames = [(frame.filename, frame.lineno, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    for path, line, code in reversed(frames + named):
        if "/torch/" not in path and "neurochains" not in path:
            return f" (at {path}:{line}: {code})"
    return ""


def _unlift(program: torch.export.ExportedProgram) -> fx.GraphModule:
    root = nn.Module()
    graph = fx.Graph()
    seen: dict[fx.Node, fx.Node] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    constants: dict[str, fx.Node] = {}
    for node in program.graph.nodes:
        spec = specs.get(node.name) if node.op == "placeholder" else None
        if spec is None or spec.kind is InputKind.USER_INPUT:
            seen[node] = graph.node_copy(node, lambda old: seen[old])
            continue
        if spec.target not in constants:
            constants[spec.target] = _constant(graph, root, spec.target, _lifted(program, spec.target), node)
        seen[node] = constants[spec.target]
    return fx.GraphModule(root, graph)


def _lifted(program: torch.export.ExportedProgram, name: str) -> Tensor:
    tensor = program.state_dict.get(name)
    return program.constants[name] if tensor is None else tensor


def _constant(graph: fx.Graph, root: nn.Module, name: str, tensor: Tensor, like: fx.Node) -> fx.Node:
    """Return a node that reads ``tensor``, kept as a buffer of the flat root."""
    flat = "w_" + re.sub(r"\W", "_", name.removeprefix("model."))
    while hasattr(root, flat):
        flat += "_"
    root.register_buffer(flat, tensor.detach())
    node = graph.get_attr(flat)
    node.meta = {**like.meta, "constant": name.removeprefix("model.")}
    return node


def _single_output(graph: fx.Graph) -> None:
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = (output_node(graph),)


def _restore_batch_norm(graph: fx.Graph) -> None:
    target = aten._native_batch_norm_legit_no_training.default
    for node in [node for node in graph.nodes if node.target is target]:
        images, weight, bias, mean, variance, momentum, epsilon = node.args
        for use in list(node.users):
            assert use.target is operator.getitem and use.args[1] == 0
            with graph.inserting_before(use):
                args = (images, weight, bias, mean, variance, False, momentum, epsilon, False)
                norm = graph.call_function(aten.batch_norm.default, args)
            norm.meta = dict(use.meta)
            use.replace_all_uses_with(norm)
            graph.erase_node(use)
        graph.erase_node(node)


def _fold_constants(module: fx.GraphModule) -> None:
    """Compute once every tensor that depends on parameters and buffers alone."""
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(module, node.target)
        elif _foldable(node, values):
            with torch.no_grad():
                values[node] = node.target(*fx.map_arg(node.args, values.get), **fx.map_arg(node.kwargs, values.get))
    for node in [node for node in values if node.op == "call_function" and isinstance(values[node], Tensor)]:
        if any(user not in values for user in node.users):
            with module.graph.inserting_before(node):
                folded = _constant(module.graph, module, f"folded_{node.name}", values[node], node)
            node.replace_all_uses_with(folded, delete_user_cb=lambda user: user not in values)


def _foldable(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if node.op != "call_function" or node.target in _RANDOM:
        return False
    inputs = node.all_input_nodes
    return bool(inputs) and all(arg in values for arg in inputs)
