"""Decoder layers as compiled graphs: each layer whole, attention included, one graph for all layers that are alike.

In: a loaded model, and the tokens of every forward pass. Out: the same model, whose layers run a graph for training and one for
scoring; or the same model unchanged, with the reason. Attention is one operator whose inputs do not change shape with the
documents (`attention.operator`), so no row compiles anything again. The layer's `forward` is compiled, not its call: what hooks
a layer from outside (ZeRO-3) stays outside of the graph. Guarantee: compilation ends at its limit, and a model whose layers
cannot be compiled still runs.
"""

from __future__ import annotations

import copy
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from transformers import PreTrainedModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.records import CompiledLayers

logger = logging.getLogger(__name__)

_MOST_GRAPHS = 64
"""Graphs of one layer class in a process: its models, times training and scoring, times kinds of layer. torch's limit is 8."""
_FILLER_TOKENS = LEAST_POSITIONS
"""No longer than the positions of any base or its sliding window, and attention grows with the square of a segment."""
_PAYS_FROM_FLOPS = 6e15
"""Forward FLOPs from which compiled scoring saves more than the 20 s that compiling takes: at 20 against 40 % of a GPU's 790
TFLOP/s, which is a model of it and not measured."""
_TIME_TO_STOP_S = 5.0
_POLL_S = 0.5
_LONGEST_REASON = 300
"""Characters of a compiler's message in records; its whole text has pages."""


_Call = tuple[tuple[Any, ...], dict[str, Any]]


class CompileStopped(BaseException):
    """Raised inside a compilation that has exceeded its limit; not an `Exception`, which the compiler would handle."""


def compiles(setting: str | bool, device: torch.device) -> bool:
    """Whether layers are compiled on this device under `train.compile`."""
    return device.type == "cuda" if setting == "auto" else bool(setting)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers: instances of the classes that the model declares as never to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.base_model.modules() if type(module).__name__ in names]


def compile_layers(
    model: PreTrainedModel,
    *,
    tokens: int,
    limit_s: float,
    training: bool = True,
    prepare: Callable[[nn.Module], None] | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> CompiledLayers:
    """Compile every decoder layer and run it once, forward and backward and then for scoring, on copies.

    Args:
        model: A model with document attention; every later forward pass has `tokens` tokens.
        tokens: Tokens per forward pass.
        limit_s: Seconds that this may take.
        training: Whether the model will be trained; otherwise only the graph for scoring is compiled.
        prepare: Makes a copy of a layer what the layer will be when it runs.
        on_wait: Called about twice a second meanwhile.

    Returns:
        What happened. If it failed or exceeded the limit, the model is as before.
    """
    started, graphs = time.perf_counter(), _graphs()
    reason: str | None = None
    try:
        layers = decoder_layers(model)
        if not layers:
            raise TrainingError(f"{type(model).__name__} does not declare its layer classes", fix="set train.compile=false")
        calls = _record_calls(model, layers, tokens)
        _bounded(lambda: _warm_up(layers, calls, training, prepare), limit_s, on_wait)
        install(model)
    except CompileStopped:
        reason = f"compiling was stopped at its limit of {limit_s:g} s"
    except Exception as error:  # whatever a compiler raises: the uncompiled model does the same work
        logger.info("layers cannot be compiled", exc_info=error)
        reason = f"{type(error).__name__}: {_first_line(error)}"
    return CompiledLayers(
        active=reason is None, seconds=time.perf_counter() - started, graphs=_graphs() - graphs, reason=reason
    )


@contextmanager
def compiled_scoring(
    model: PreTrainedModel, setting: str | bool, *, num_tokens: int, row_tokens: int, limit_s: float
) -> Iterator[int | None]:
    """Score with compiled layers inside, where that takes less time than compiling them.

    Args:
        model: A model with document attention, in eval mode.
        setting: `auto`, or whether to compile.
        num_tokens: Tokens to score.
        row_tokens: Tokens of every forward pass.
        limit_s: Seconds that compiling may take.

    Yields:
        `row_tokens` if layers are compiled: every forward pass must have as many. Else None.
    """
    body = sum(parameter.numel() for parameter in model.base_model.parameters())
    pays = 2 * body * num_tokens >= _PAYS_FROM_FLOPS
    result = None
    if compiles(setting, model.device) and (pays or setting != "auto"):
        result = compile_layers(model, tokens=row_tokens, limit_s=limit_s, training=False)
        if result.reason:
            logger.warning("layers are not compiled, scoring is slower: %s", result.reason)
    try:
        yield row_tokens if result is not None and result.active else None
    finally:
        remove(model)


def filler_lengths(missing: int) -> list[int]:
    """Lengths of the segments that fill up a row to the size that layers are compiled for."""
    whole, rest = divmod(missing, _FILLER_TOKENS)
    return [_FILLER_TOKENS] * whole + [rest] * (rest > 0)


def install(model: PreTrainedModel) -> None:
    """Let every decoder layer run its compiled forward pass."""
    _set_up_thread()
    for layer in decoder_layers(model):
        layer.forward = MethodType(_compiled(type(layer).forward), layer)


def remove(model: PreTrainedModel) -> None:
    """Undo `install`."""
    for layer in decoder_layers(model):
        layer.__dict__.pop("forward", None)


@cache
def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled forward pass of a layer class, one for all runs of a process: the next model of the same shape reuses it."""
    graph = torch.compile(forward, dynamic=False, fullgraph=True)

    def run(layer: nn.Module, hidden: Tensor, *others: Any, **settings: Any) -> Any:
        # Adapters and checkpointing mark embeddings as requiring gradients even while none are computed: another graph.
        if hidden.requires_grad and not torch.is_grad_enabled():
            hidden = hidden.detach()
        return graph(layer, hidden, *others, **settings)

    return run


def _set_up_thread() -> None:
    """Torch's settings for these graphs; they apply to the thread that sets them."""
    torch._dynamo.config.recompile_limit = _MOST_GRAPHS
    # Fused projections keep their parts on a module from one layer's call to the next, and leave it as it was: with gradient
    # checkpointing there is nothing to do again in the backward pass.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _record_calls(model: PreTrainedModel, layers: list[nn.Module], tokens: int) -> list[_Call]:
    """What each layer is called with in a forward pass of `tokens` tokens, in segments that any model can take.

    One document of so many tokens may exceed the positions that a model has learned, and on a GPU that ends the process.
    """
    calls: list[_Call] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        for layer in layers
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            hidden_states(model, torch.zeros(tokens, dtype=torch.int64, device=model.device), filler_lengths(tokens))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return calls


def _warm_up(layers: list[nn.Module], calls: list[_Call], training: bool, prepare: Callable[[nn.Module], None] | None) -> None:
    """Run each layer's compiled forward pass on a copy: nothing of the model changes, and a late thread cannot disturb it."""
    _set_up_thread()
    for layer, (args, kwargs) in zip(layers, calls, strict=True):
        twin = copy.deepcopy(layer)
        if prepare is not None:
            prepare(twin)
        forward = MethodType(_compiled(type(twin).forward), twin)
        if training:
            twin.train()
            with torch.enable_grad():
                _output(forward(*_leaves(args), **kwargs)).sum().backward()
        twin.eval()
        with torch.no_grad():
            forward(*args, **kwargs)


def _leaves(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The positional arguments, of which the first is the hidden states, as leaves of a new graph."""
    hidden, *others = args
    return hidden.detach().clone().requires_grad_(), *others


def _output(result: Any) -> Tensor:
    """A layer returns hidden states, in some models first in a tuple."""
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def _bounded(work: Callable[[], None], limit_s: float, on_wait: Callable[[], None]) -> None:
    """Run `work` in a thread, and stop it at the limit.

    Raises:
        CompileStopped: At the limit. A thread that native code keeps busy is left to end by itself.
        Exception: What `work` raises.
    """
    errors: list[BaseException] = []
    gpu = torch.cuda.current_device() if torch.cuda.is_available() else None

    def run() -> None:
        try:
            with nullcontext() if gpu is None else torch.cuda.device(gpu):  # a thread starts on the first card
                work()
        except BaseException as error:  # raised by the caller: an exception in a thread is only printed
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="compile")
    deadline = time.monotonic() + limit_s
    with torch.random.fork_rng(devices=[] if gpu is None else [gpu]):
        thread.start()
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(min(_POLL_S, limit_s))
            on_wait()
        if thread.is_alive():
            # Not a signal: under Ray, training is not in the main thread, and only that one gets signals.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(CompileStopped))
            thread.join(_TIME_TO_STOP_S)
            raise CompileStopped
    if errors:
        raise errors[0]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_LONGEST_REASON] if lines else "no message"
