"""`step`: forward and backward of one batch by fairseq's wav2vec 2.0, by ours, and by an un-fused formulation."""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion
from fairseq.logging import metrics
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.family import family_steps
from ccc_w2v.benchmark.sizes import SIZES
from ccc_w2v.compat_half import check_half_convolutions
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.freed_memory import keep_freed_memory
from ccc_w2v.losses.batch_signals import SLOW_EVERY
from ccc_w2v.losses.contrastive import contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.negatives import equal_codes, sample_negatives
from ccc_w2v.losses.views import ORIGINAL
from ccc_w2v.model import CccWav2Vec2Model
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.settings.model import CccWav2Vec2Config
from ccc_w2v.training.signal_log import log_signals
from ccc_w2v.training.utilisation import matmul_flops_per_second

RATE = 16000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WAV2VEC2, ONE_VIEW, OURS, UNFUSED = "fairseq wav2vec 2.0", "ours, one view", "ours, two views", "un-fused, two views"
ONE_CONTEXT = "ours, one context"
OBJECTIVE, UNFUSED_OBJECTIVE = "objective alone", "un-fused objective alone"
UNSIGNALLED, SIGNALS, SLOW_SIGNALS = "ours, no signals", "signals and their log", f"signals, every {SLOW_EVERY}th"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark step`."""
    parser.add_argument("--size", choices=sorted(SIZES), default="base", help="model (default: base)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of weights and inputs")
    parser.add_argument("--utterances", type=int, default=4, help="in the batch (default: 4)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each utterance (default: 10)")
    parser.add_argument("--negatives", type=int, default=100, help="per masked frame (default: 100)")
    parser.add_argument("--rounds", type=int, default=5, help="measured calls of each (default: 5)")
    parser.add_argument("--checkpoint-activations", action="store_true", help="compute activations again for backward")
    parser.add_argument("--checkpoint-features", action="store_true", help="ours: the feature encoder's alone")
    parser.add_argument("--compile", action="store_true", help="run our Transformer's layers through torch.compile")
    parser.add_argument("--default-malloc", action="store_true", help="give freed memory back, as without our plugin")
    parser.add_argument("--no-unfused", action="store_true", help="leave out the un-fused formulation")
    parser.add_argument("--family", action="store_true", help="also the options of docs/family.md, a row for each")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table and a breakdown, and return the ratios that docs/benchmarks.md keeps."""
    if not args.default_malloc:
        keep_freed_memory()
    bench = Bench(args)
    steps = {WAV2VEC2: bench.wav2vec2, ONE_VIEW: bench.one_view, ONE_CONTEXT: bench.one_context, OURS: bench.ours}
    steps |= {UNSIGNALLED: bench.unsignalled}
    steps |= {SIGNALS: bench.signals(update=1), SLOW_SIGNALS: bench.signals(update=0)}
    steps[OBJECTIVE] = bench.objective(bench.model, bench.criterion)
    if not args.no_unfused:
        steps[UNFUSED] = bench.unfused
        steps[UNFUSED_OBJECTIVE] = bench.objective(*bench.un_fused)
    family = family_steps(bench) if args.family else {}
    steps |= family
    print(f"{args.size}, {args.utterances} x {args.seconds:g} s, {args.negatives} negatives, {args.precision}")
    print(f"on {measure.machine(bench.device)}")
    seconds = measure.interleaved(steps, args.rounds, bench.device)
    # Each table as soon as it is measured: the profiler that finds the peaks of memory takes a lot of it itself.
    print(f"{'':26}{'median':>10}{'of wav2vec 2.0':>16}", flush=True)
    for name, taken in seconds.items():
        ratio = measure.median_ratio(taken, seconds[WAV2VEC2])
        print(f"{name:26}{statistics.median(taken):8.3f} s{ratio:16.4f}", flush=True)
    print(f"{'':26}{'peak memory of tensors':>24}")
    peaks = {}
    for name, step in steps.items():
        peaks[name] = measure.peak_memory(step, bench.device)
        print(f"{name:26}{peaks[name] / 2**20:20.0f} MiB", flush=True)
    bench.print_breakdown()
    bench.print_utilisation(statistics.median(seconds[OURS]))
    result = {
        "step_ratio_vs_wav2vec2": measure.median_ratio(seconds[OURS], seconds[WAV2VEC2]),
        "step_ratio_vs_one_view": measure.median_ratio(seconds[OURS], seconds[ONE_VIEW]),
        "one_context_ratio_vs_wav2vec2": measure.median_ratio(seconds[ONE_CONTEXT], seconds[WAV2VEC2]),
        "one_context_peak_ratio": peaks[ONE_CONTEXT] / peaks[WAV2VEC2],
        "objective_share": measure.median_ratio(seconds[OBJECTIVE], seconds[OURS]),
        "signals_share": measure.median_ratio(signals_seconds(seconds), seconds[OURS]),
        "step_ratio_with_signals": measure.median_ratio(seconds[OURS], seconds[UNSIGNALLED]),
    }
    if not args.no_unfused:
        result["unfused_ratio_vs_ours"] = measure.median_ratio(seconds[UNFUSED], seconds[OURS])
        result["objective_peak_ratio"] = peaks[OBJECTIVE] / peaks[UNFUSED_OBJECTIVE]
    for name in family:
        result[f"{name}_ratio_vs_ours"] = measure.median_ratio(seconds[name], seconds[OURS])
        result[f"{name}_ratio_vs_wav2vec2"] = measure.median_ratio(seconds[name], seconds[WAV2VEC2])
        result[f"{name}_peak_ratio"] = peaks[name] / peaks[OURS]
    return {name: round(value, 4) for name, value in result.items()}


def signals_seconds(seconds: dict[str, list[float]]) -> list[float]:
    """Return what the signals take of a mean update: those of every update, and now and then the slow ones."""
    return [
        (fast * (SLOW_EVERY - 1) + slow) / SLOW_EVERY
        for fast, slow in zip(seconds[SIGNALS], seconds[SLOW_SIGNALS], strict=True)
    ]


class WithoutSignals(CccCriterion):
    """The same loss, with no signals of health measured beside it."""

    def _signals(self, *_: Any) -> dict[str, torch.Tensor]:
        return {}


class Bench:
    """The models, the batch and one function for each thing that is measured."""

    def __init__(
        self,
        args: argparse.Namespace,
        model: dict[str, Any] | None = None,
        criterion: dict[str, Any] | None = None,
        own: dict[str, Any] | None = None,
    ):
        check_half_convolutions()  # what is measured is a step whose numbers are right
        self.device, self.dtype = torch.device(args.device), DTYPES[args.precision]
        self.shared = {**SIZES[args.size], "num_negatives": args.negatives, **(model or {})}
        self.shared["checkpoint_activations"] = args.checkpoint_activations
        options = {"compile_layers": args.compile, "checkpoint_features": args.checkpoint_features, **(own or {})}
        self.model = self._place(CccWav2Vec2Model(CccWav2Vec2Config(**self.shared, **options)))
        # The first update measures the slow signals too; most do not.
        self.model.num_updates = 1
        self.criterion = CccCriterion(CccCriterionConfig(**(criterion or {})), task=None)
        self.one_context_criterion = CccCriterion(CccCriterionConfig(contexts=ORIGINAL), task=None)
        self.silent_criterion = WithoutSignals(CccCriterionConfig(), task=None)
        self.fairseq_criterion = Wav2vecCriterion(None, infonce=True, loss_weights=[0.1, 10])
        generator = torch.Generator().manual_seed(0)
        source_BS = torch.randn(args.utterances, int(args.seconds * RATE), generator=generator)
        noise_BS = torch.randn(source_BS.shape, generator=generator)
        views = [view.to(self.device, self.dtype) for view in (source_BS, source_BS + 0.1 * noise_BS)]
        self.sample: dict[str, Any] = {
            "id": torch.arange(args.utterances),
            "net_input": {"source": views[0], "source_aug": views[1], "seed": 1},
        }

    @functools.cached_property
    def fairseq_model(self) -> Wav2Vec2Model:
        """fairseq's wav2vec 2.0 of the same size."""
        return self._place(Wav2Vec2Model(Wav2Vec2Config(**self.shared)))

    @functools.cached_property
    def un_fused(self) -> tuple[Any, CccCriterion]:
        """The model with two passes and the criterion with explicit negatives; needs the packages of [benchmark]."""
        from ccc_w2v.benchmark.unfused import TwoPassModel, UnfusedCriterion

        model = self._place(TwoPassModel(CccWav2Vec2Config(**self.shared)))
        return model, UnfusedCriterion(CccCriterionConfig(), task=None)

    def _place(self, model: Any) -> Any:
        return model.to(self.device, self.dtype).train()

    def backward(self, model: Any, loss: torch.Tensor) -> None:
        """Run the backward pass of a loss and drop the gradients."""
        with torch.profiler.record_function("backward"):
            loss.backward()
        model.zero_grad()

    def wav2vec2(self) -> None:
        """Run fairseq's model and criterion on one view."""
        plain = {"id": self.sample["id"], "net_input": {"source": self.sample["net_input"]["source"]}}
        self.backward(self.fairseq_model, self.fairseq_criterion(self.fairseq_model, plain)[0])

    def ours(self) -> None:
        """Run our model and criterion on both views."""
        self.backward(self.model, self.criterion(self.model, self.sample)[0])

    def one_context(self) -> None:
        """Run our model and criterion on both views with the original's context alone (criterion.contexts)."""
        self.backward(self.model, self.one_context_criterion(self.model, self.sample)[0])

    def unsignalled(self) -> None:
        """Run our model and criterion on both views, without the signals of health."""
        self.backward(self.model, self.silent_criterion(self.model, self.sample)[0])

    def signals(self, update: int) -> Callable[[], None]:
        """Return a function that measures and logs one batch's signals of health, as an update of this number does."""
        with torch.no_grad():
            output = self.model(**self.sample["net_input"])
            objective = self.criterion.objective(self.model, output, self.sample)

        def measure_signals() -> None:
            self.model.num_updates = update
            with metrics.aggregate(new_root=True):
                log_signals([self.criterion._signals(self.model, output, objective, self.sample["net_input"])])
            self.model.num_updates = 1

        return measure_signals

    def unfused(self) -> None:
        """Run the un-fused formulation on both views."""
        model, criterion = self.un_fused
        self.backward(model, criterion(model, self.sample)[0])

    def one_view(self) -> None:
        """Run wav2vec 2.0's loss on one view through our code: the same encoder pass, quantizer and logits."""
        model, source, seed = self.model, self.sample["net_input"]["source"], 1
        mask = model.draw_mask(source, None, seed)
        encoded = model.encode(source, None, mask, None, seed)
        context, raw = encoded.context_BMD, encoded.raw_BTF
        target = model.quantize(encoded.features_BMF, None, generator_for(seed, "gumbel", device=self.device))
        drawn = generator_for(seed, "negatives", device=self.device)
        utterances, frames = context.shape[:2]
        negatives = sample_negatives(utterances, frames, model.n_negatives, drawn)
        logits = cosine_logits(context, model.project_q(target.vectors_BMD), negatives, model.logit_temp)
        equal = equal_codes(target.codes_BMG, negatives)
        loss = contrastive_term(weigh_negatives(logits, equal, equal, "scale_similarity", 1.0)).loss
        self.backward(model, loss - target.prob_perplexity + raw.float().pow(2).mean())

    def objective(self, model: Any, criterion: CccCriterion) -> Callable[[], None]:
        """Return a function that runs clustering, negatives, logits and their backward on contexts and targets."""
        with torch.no_grad():
            output = model(**self.sample["net_input"])
        views = output.views().values()
        leaves = [leaf.requires_grad_() for view in views for leaf in (view.context_BMD, view.target_BMD)]

        def run_objective() -> None:
            terms = criterion.objective(model, output, self.sample).terms
            torch.autograd.grad(torch.stack([term.loss for term in terms.values()]).sum(), leaves)

        return run_objective

    @contextmanager
    def ranges(self) -> Iterator[None]:
        """Name the feature encoder and the Transformer to the profiler."""
        modules = (("feature encoder", self.model.feature_extractor), ("Transformer", self.model.encoder))
        handles = [handle for name, module in modules for handle in _ranged(module, name)]
        yield
        for handle in handles:
            handle.remove()

    def print_breakdown(self) -> None:
        """Print where a step of ours spends its time."""
        names = [
            "feature encoder",
            "Transformer",
            "ccc.quantizer",
            "ccc.clustering",
            "ccc.negatives_and_logits",
            "ccc.signals",
        ]

        def step() -> None:
            with torch.profiler.record_function("step"):
                with torch.profiler.record_function("forward"):
                    loss = self.criterion(self.model, self.sample)[0]
                self.backward(self.model, loss)

        with self.ranges():
            seconds_of = measure.range_seconds(step, [*names, "backward", "forward"], self.device)
        forward = seconds_of.pop("forward")
        total = forward + seconds_of["backward"]
        seconds_of["rest of forward"] = forward - sum(seconds_of[name] for name in names)
        print("ours, two views, by the profiler:")
        for name, taken in seconds_of.items():
            print(f"  {name.removeprefix('ccc.').replace('_', ' '):24}{taken:8.3f} s{taken / total:8.2%}")

    def print_utilisation(self, seconds: float) -> None:
        """Print the share of the device's measured matmul rate that a step of ours reaches."""
        flops = measure.flops(self.ours)
        width = 8192 if self.device.type == "cuda" else 2048
        limit = matmul_flops_per_second(self.dtype, self.device, width)
        reached = flops / seconds
        print(
            f"model FLOPs utilisation {reached / limit:.1%}: {reached / 1e12:.3f} of {limit / 1e12:.3f} TFLOP/s, "
            f"the rate of a {width} x {width} matrix product here"
        )


def _ranged(module: torch.nn.Module, name: str) -> list[Any]:
    ranges: list[Any] = []

    def enter(*_: Any) -> None:
        ranges.append(torch.profiler.record_function(name))
        ranges[-1].__enter__()

    return [
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(lambda *_: ranges.pop().__exit__(None, None, None)),
    ]
