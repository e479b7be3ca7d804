"""How many kernels a call starts on a device: what bounds a step whose arithmetic is fast (a GPU in half precision).

Counted are aten operations that compute or copy on the device, by the dispatcher, on any device: views, metadata and
memory without values start nothing. A composite kernel (cuDNN's convolution, a fused attention) counts once, though it
may start several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# They allocate, or tell autograd something.
START_NOTHING = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"),
    *("detach", "lift_fresh", "alias", "_unsafe_view", "is_same_size", "_has_compatible_shallow_copy_type"),
}
REST, BACKWARD = "rest", "backward"
_ENTER, _EXIT = "profiler::_record_function_enter_new", "profiler::_record_function_exit"


class KernelCounter(TorchDispatchMode):
    """Counts the kernels that start on a kind of device, by the profiler's innermost range around them."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.ranges, self.counts = [REST], Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        name = function._schema.name
        if name == _ENTER:
            self.ranges.append(args[0])
        elif name.startswith(_EXIT):
            self.ranges.pop()
        elif self._starts_one(function, tree_leaves((args, kwargs, output))):
            self.counts[self.ranges[-1]] += 1
        return output

    def _starts_one(self, function: Any, leaves: list[Any]) -> bool:
        namespace, _, name = function._schema.name.partition("::")
        on_device = any(torch.is_tensor(leaf) and leaf.device.type == self.device_type for leaf in leaves)
        return on_device and namespace == "aten" and not function.is_view and name not in START_NOTHING


def kernels(function: Callable[[], object], device: torch.device) -> Counter[str]:
    """Return how many kernels a call starts, by the profiler's range; without torch.compile."""
    with torch.compiler.set_stance("force_eager"), KernelCounter(device.type) as counter:
        function()
    return counter.counts
