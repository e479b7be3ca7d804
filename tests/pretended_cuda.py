"""A CUDA device that computes nothing, on any machine: what is on the CPU is real, what is on the GPU has only a shape.

Whatever would wait for the device to tell a value (.item(), nonzero, a shape that depends on data, a copy to the CPU)
raises, since there is none. So does what has no deterministic form there, which task.deterministic would meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.no_deterministic_form import refuse

CUDA = torch.device("cuda", 0)


class PretendedCuda(TorchDispatchMode):
    """Send what touches the device to torch's fake tensors, and all else to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        on_device = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        target = kwargs.get("device")
        to_device = target is not None and torch.device(target).type == "cuda"
        if on_device and target is not None and not to_device and function is torch.ops.aten._to_copy.default:
            raise RuntimeError("a copy from the device to the CPU waits for the device")
        if on_device or to_device:
            refuse(function, args, kwargs)
            # Its generator is not the device's, which there is none of; a shape does not depend on it.
            kwargs = {name: None if name == "generator" else value for name, value in kwargs.items()}
            with self.fake:
                return function(*args, **kwargs)
        return function(*args, **kwargs)


class MadeOnTheCpu(TorchFunctionMode):
    """Make tensors of Python's numbers on the CPU, and move them: torch does as much inside, but asks for a driver."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": args[0].device, **kwargs}
            function, args = torch.tensor, args[1:]
        device = kwargs.pop("device", "cpu") if function is torch.tensor else "cpu"
        made = function(*args, **kwargs)
        return made.to(device) if torch.device(device).type != "cpu" else made


class DeviceGenerator(torch.Generator):
    """A generator that says it is the device's."""

    device = CUDA  # type: ignore[assignment]


@contextmanager
def pretended_cuda(monkeypatch: Any) -> Iterator[PretendedCuda]:
    """Make generators of the pretended device, and send what touches it to fake tensors."""
    from ccc_w2v import criterion, model
    from ccc_w2v.data.randomness import generator_for, seed_for

    def pretended(seed: int, purpose: str, *position: int, device: Any = "cpu") -> torch.Generator:
        if torch.device(device).type == "cpu":
            return generator_for(seed, purpose, *position)
        return DeviceGenerator().manual_seed(seed_for(seed, purpose, *position))

    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    for module in (criterion, model):
        monkeypatch.setattr(module, "generator_for", pretended)
    with MadeOnTheCpu(), PretendedCuda() as mode:
        yield mode


def backward(loss: torch.Tensor) -> dict[int, torch.Tensor]:
    """Run the backward pass of a scalar of the device; returns the gradients of leaves by their id.

    Node by node, since torch's own engine asks the driver for the device's streams, and there is no driver.
    """
    consumers = _consumers(loss.grad_fn)
    waiting: dict[Any, dict[int, torch.Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready, gradients = [loss.grad_fn], {}
    while ready:
        node = ready.pop()
        incoming = waiting.pop(node, {})
        if hasattr(node, "variable"):  # a leaf
            gradients[id(node.variable)] = incoming[0]
            continue
        outputs = len(node._input_metadata)
        call = node.apply if isinstance(node, torch.autograd.function.BackwardCFunction) else node
        outgoing = call(*(incoming.get(number) for number in range(outputs))) if incoming else None
        outgoing = outgoing if isinstance(outgoing, tuple) else (outgoing,) * len(node.next_functions)
        for (following, number), gradient in zip(node.next_functions, outgoing, strict=False):
            if following is None:
                continue
            if gradient is not None:
                expected = following._input_metadata[number]
                gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
                sums = waiting.setdefault(following, {})
                sums[number] = sums[number] + gradient if number in sums else gradient
            consumers[following] -= 1
            if not consumers[following] and (following in waiting or not hasattr(following, "variable")):
                ready.append(following)
    return gradients


def _consumers(root: Any) -> dict[Any, int]:
    """Return how many edges of the graph below ``root`` lead to each node."""
    counts: dict[Any, int] = {}
    todo = [root]
    while todo:
        for following, _ in todo.pop().next_functions:
            if following is not None:
                counts[following] = counts.get(following, 0) + 1
                if counts[following] == 1:
                    todo.append(following)
    return counts
