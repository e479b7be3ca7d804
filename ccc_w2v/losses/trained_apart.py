"""Parameters that a criterion trains by themselves, with an optimiser of their own, beside the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ccc_w2v.losses.sinkhorn import all_reduced


class TrainedApart:
    """Some tensors and their optimiser; the same on every process, since all see the summed gradient.

    It is no torch module: the training's optimiser shall not see its parameters, nor the model's state dict hold them.
    Once in each update, step() goes against the mean gradient of the update's batches.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], build: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    ):
        self._build = build
        self._take(parameters)

    def _take(self, parameters: Mapping[str, torch.Tensor]) -> None:
        self.parameters = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        self.optimizer = self._build(list(self.parameters.values()))
        self._summed = [torch.zeros_like(parameter) for parameter in self.parameters.values()]
        self._batches = 0

    def to(self, device: torch.device) -> None:
        """Move everything to a device, if it is on another."""
        if next(iter(self.parameters.values())).device != device:
            state = self.state_dict()
            self._take({name: tensor.to(device) for name, tensor in self.parameters.items()})
            self.load_state_dict(state)

    def learn(self, loss: torch.Tensor) -> None:
        """Keep the gradient of a batch's loss for the next step; those of all processes are added then."""
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        for summed, gradient in zip(self._summed, gradients, strict=True):
            summed += gradient
        self._batches += 1

    def forget(self) -> None:
        """Drop the gradients of the batches since the last step: a new update begins."""
        self._batches = 0
        for summed in self._summed:
            summed.zero_()

    def step(self, lr: float) -> None:
        """Make a step against the mean gradient of the batches since the last one; every process must call it."""
        if not self._batches:
            return
        for parameter, summed in zip(self.parameters.values(), self._summed, strict=True):
            parameter.grad = all_reduced(summed / self._batches)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: tensors and plain numbers."""
        kept = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return {**kept, "optimizer": self.optimizer.state_dict()["state"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint has kept, of the same shapes."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[name])
        groups = self.optimizer.state_dict()["param_groups"]
        # The optimiser would otherwise go on with the very tensors of the state.
        kept = copy.deepcopy(state["optimizer"])
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})
