"""GPUs, their memory and audio per update -> max_tokens, update_freq, learning rate, warm-up, hours, time, disk.

Plain arithmetic, without fairseq: ``planning/recipe.py`` reads what a configuration asks for, ``planning/trial.py``
measures a step. Each rule names its source; memory is an estimate, which a trial checks. Sizes are in samples ("tokens"
of fairseq's ``max_tokens``), memory in GiB, disk in GB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ccc_w2v.errors import InputError

# fairseq's max_tokens fit V100s in fp16, one view of each utterance (arXiv 2006.11477, section 4.2). Which of the two
# V100s the paper does not say: with the larger, the estimate errs to the side that fits.
KNOWN_MEMORY = 32.0
# Bytes for each parameter. In fp16: weight and gradient, both again in fp32, Adam's two moments; in fp32 no copies.
STATE_BYTES = {"fp16": 2 + 2 + 4 + 4 + 8, "fp32": 4 + 4 + 8}
VALUE_BYTES = {"fp16": 2, "fp32": 4}
# fairseq's checkpoints: weights and Adam's moments (wav2vec_small.pt, fp16: 950 MB for 95 million parameters).
CHECKPOINT_BYTES = {"fp16": 2 + 8, "fp32": 4 + 8}
# A point in TensorBoard, and the values that a training logs at once: measured.
SCALAR_BYTES, SCALARS = 56, 27

# Seconds of audio per update, and the learning rate that is best for it (arXiv 2402.13723, wav2vec 2.0 BASE).
BEST_LR = ((150.0, 7.9e-5), (300.0, 1.1e-4), (600.0, 1.6e-4), (1200.0, 2.2e-4), (2400.0, 5e-4))
SMALLEST_BATCH = BEST_LR[0][0]
# Hours processed by wav2vec 2.0 BASE on LS-960, then WER on test-clean and test-other after fine-tuning on 100 h,
# without a language model (arXiv 2402.13723).
WER_BY_HOURS = (
    *((16_700, 16.5, 40.2), (33_000, 12.2, 31.5), (67_000, 9.1, 23.1)),
    *((133_000, 7.4, 19.0), (267_000, 6.3, 15.1), (400_000, 5.9, 15.7)),
)


@dataclass(frozen=True)
class Recipe:
    """What a configuration asks for, on the GPUs that it was written for."""

    name: str
    views: int
    parameters: int
    precision: str
    max_tokens: int
    longest: int  # samples of the longest crop or utterance
    gpus: int
    update_freq: int
    updates: int
    lr: float
    warmup_updates: int | None  # None where the schedule is made of shares of the run
    shortest: int = 0  # samples of the shortest utterance that is taken
    crop_memory: float = 0.0  # what one view of the longest crop takes at the very least [GiB]
    sample_rate: int = 16_000
    checkpoints: int = 3  # kept on disk
    log_interval: int = 200
    pretraining: bool = True

    @property
    def batch_seconds(self) -> float:
        """Audio per update, of one view [s]: the most that max_tokens lets through."""
        return self.max_tokens * self.gpus * self.update_freq / self.sample_rate

    @property
    def state_memory(self) -> float:
        """Memory for weights, gradients and optimiser [GiB]."""
        return self.parameters * STATE_BYTES[self.precision] / 2**30

    @property
    def least_memory(self) -> float:
        """Memory without which no batch can be trained on: the state's, and one view of the longest crop's [GiB]."""
        return self.state_memory + self.crop_memory


@dataclass(frozen=True)
class Plan:
    """How to run a recipe on other GPUs."""

    recipe: Recipe
    gpus: int
    memory: float | None
    max_tokens: int
    update_freq: int
    updates: int
    lr: float
    warmup_updates: int | None
    step_seconds: float | None = None
    filled: float | None = None  # share of max_tokens that a batch of the corpus has on average
    warnings: list[str] = field(default_factory=list)

    @property
    def batch_seconds(self) -> float:
        """Audio per update, of one view [s]."""
        return self.max_tokens * self.gpus * self.update_freq / self.recipe.sample_rate

    @property
    def hours_processed(self) -> float:
        """Audio over the whole run, of one view [h]; without a corpus to tell, of full batches."""
        return self.batch_seconds * (self.filled or 1) * self.updates / 3600

    @property
    def wall_hours(self) -> float | None:
        """Time of the run, from the trial's step [h]."""
        return None if self.step_seconds is None else self.step_seconds * self.update_freq * self.updates / 3600

    @property
    def disk_gb(self) -> float:
        """Checkpoints, with the one being written beside those that are kept, and TensorBoard's numbers."""
        checkpoint_bytes = self.recipe.parameters * CHECKPOINT_BYTES[self.recipe.precision]
        board = self.updates / self.recipe.log_interval * SCALARS * SCALAR_BYTES
        return ((self.recipe.checkpoints + 1) * checkpoint_bytes + board) / 1e9

    def overrides(self) -> list[str]:
        """Return what the plan changes, as arguments of fairseq-hydra-train."""
        words = [
            f"dataset.max_tokens={self.max_tokens}",
            f"optimization.update_freq=[{self.update_freq}]",
            f"optimization.max_update={self.updates}",
            f"optimization.lr=[{self.lr:.4g}]",
            f"distributed_training.distributed_world_size={self.gpus}",
        ]
        if self.warmup_updates is not None:
            words.append(f"lr_scheduler.warmup_updates={self.warmup_updates}")
        return words


def best_lr(batch_seconds: float) -> float:
    """Return the learning rate that is best for so much audio per update.

    Between the rows of BEST_LR it is interpolated in the logarithms of both; beyond the last it stays, before the first
    it falls with the square root, as between the first four.
    """
    if batch_seconds <= BEST_LR[0][0]:
        return BEST_LR[0][1] * math.sqrt(batch_seconds / BEST_LR[0][0])
    for (left, low), (right, high) in zip(BEST_LR, BEST_LR[1:], strict=False):
        if batch_seconds <= right:
            return low * (high / low) ** (math.log(batch_seconds / left) / math.log(right / left))
    return BEST_LR[-1][1]


def tokens_that_fit(recipe: Recipe, memory: float) -> int:
    """Estimate the samples of one batch that a GPU of so much memory holds.

    What is not weights, gradients or optimiser grows with the samples and the views: the configuration's max_tokens in
    KNOWN_MEMORY is scaled. Conservative: known to fit; more might.
    """
    known = KNOWN_MEMORY - recipe.parameters * STATE_BYTES["fp16"] / 2**30
    share = (memory - recipe.state_memory) / known / recipe.views
    return max(0, int(recipe.max_tokens * share * VALUE_BYTES["fp16"] / VALUE_BYTES[recipe.precision]))


def memory_needed(recipe: Recipe, tokens: int) -> float:
    """Return the memory [GiB] in which tokens_that_fit gives ``tokens``."""
    known = KNOWN_MEMORY - recipe.parameters * STATE_BYTES["fp16"] / 2**30
    values = VALUE_BYTES[recipe.precision] / VALUE_BYTES["fp16"]
    return recipe.state_memory + tokens / recipe.max_tokens * known * recipe.views * values


def make_plan(
    recipe: Recipe,
    gpus: int,
    *,
    memory: float | None = None,
    batch_seconds: float | None = None,
    max_tokens: int | None = None,
    updates: int | None = None,
    step_seconds: float | None = None,
) -> Plan:
    """Spread a recipe's audio per update over ``gpus`` and gradient accumulation.

    ``batch_seconds`` replaces the recipe's audio per update, ``max_tokens`` the estimate from ``memory``, and
    ``updates`` its length. ``step_seconds`` is what a trial took for one batch on one of the GPUs.
    Raises InputError for a number that is not positive, and for a GPU that the longest crop cannot fit into.
    """
    for name, value in (("--gpus", gpus), ("--memory", memory), ("--batch-seconds", batch_seconds)) + (
        ("--max-tokens", max_tokens),
        ("--updates", updates),
        ("--step-seconds", step_seconds),
    ):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} {value}: must be positive")
    if memory is not None and recipe.least_memory > memory:
        raise InputError(_cannot_fit(recipe, memory))
    warnings: list[str] = []
    fits = max_tokens or (recipe.max_tokens if memory is None else tokens_that_fit(recipe, memory))
    if fits < recipe.longest:
        warnings.append(_too_little_memory(recipe, fits, memory))
        fits = recipe.longest
    batch = batch_seconds or recipe.batch_seconds
    per_gpu = batch * recipe.sample_rate / gpus
    update_freq = math.ceil(per_gpu / fits - 1e-9)
    tokens = math.ceil(per_gpu / update_freq - 1e-6)
    if tokens < recipe.longest:
        tokens, update_freq = recipe.longest, max(1, round(per_gpu / recipe.longest))
    updates = updates or recipe.updates
    warmup = recipe.warmup_updates
    plan = Plan(
        recipe,
        gpus,
        memory,
        tokens,
        update_freq,
        updates,
        recipe.lr,
        None if warmup is None else max(1, round(warmup * updates / recipe.updates)) if warmup else 0,
        step_seconds,
        warnings=warnings,
    )
    return _with_lr(plan, batch)


def _with_lr(plan: Plan, wanted_seconds: float) -> Plan:
    """Scale the learning rate to the batch, and warn about a batch that nobody has trained with."""
    recipe, batch, lr = plan.recipe, plan.batch_seconds, plan.recipe.lr
    if plan.update_freq == 1 and batch > 1.02 * wanted_seconds:
        enough = max(1, int(wanted_seconds * recipe.sample_rate / plan.max_tokens))
        plan.warnings.append(
            f"too many for {wanted_seconds:.0f} s of audio per update, since each takes at least {recipe.longest} "
            f"samples, the longest utterance: it becomes {batch:.0f} s; use {enough}, or lower task.max_sample_size"
        )
    if recipe.pretraining:
        lr *= best_lr(batch) / best_lr(recipe.batch_seconds)
        if batch < SMALLEST_BATCH:
            needed = math.ceil(SMALLEST_BATCH * recipe.sample_rate / (plan.max_tokens * plan.gpus))
            plan.warnings.append(
                f"{batch:.1f} s of audio per update: {SMALLEST_BATCH:.0f} s is the least known to train well, 87.5 s "
                f"trained badly (arXiv 2402.13723); give --batch-seconds {SMALLEST_BATCH:.0f}, which is "
                f"update_freq={needed} here"
            )
    elif abs(batch / recipe.batch_seconds - 1) > 0.05:
        plan.warnings.append(
            f"{batch:.0f} s of audio per update where the recipe has {recipe.batch_seconds:.0f} s: no source says how "
            "the learning rate of fine-tuning follows it, so it stays"
        )
    return replace(plan, lr=lr)


def with_batches(plan: Plan, filled: float, recipe_filled: float) -> Plan:
    """Add what share of max_tokens batches of the corpus hold, in this plan and at the recipe's own max_tokens.

    A smaller max_tokens leaves more of itself empty; where that costs a twentieth of the audio, a warning says so.
    """
    plan = replace(plan, filled=filled)
    audio = plan.batch_seconds * filled / (plan.recipe.batch_seconds * recipe_filled)
    share = audio / min(1.0, plan.batch_seconds / plan.recipe.batch_seconds)
    if share < 0.95:
        plan.warnings.append(
            f"batches of this corpus fill {filled:.0%} of max_tokens, {recipe_filled:.0%} on the recipe's own GPUs: an "
            f"update processes {1 - share:.0%} less; --batch-seconds {plan.batch_seconds / share:.0f} makes up for it"
        )
    return plan


def _cannot_fit(recipe: Recipe, memory: float) -> str:
    seconds = recipe.longest / recipe.sample_rate
    needs = f"weights, gradients and optimiser {recipe.state_memory:.1f} GiB, "
    needs += f"one view of a crop of {seconds:.1f} s at least {recipe.crop_memory:.1f} GiB"
    if not recipe.pretraining:
        remedy = "leave longer recordings out of the manifest, or cut them at pauses with ccc-w2v manifest"
    elif recipe.state_memory > memory:
        remedy = "choose a smaller model or a GPU with more memory"
    else:
        remedy = "set task.max_sample_size: longer recordings are cropped anew in each epoch"
    return f"{recipe.name}: does not fit {memory:g} GiB ({needs}); {remedy}, or add +model.checkpoint_activations=true"


def _too_little_memory(recipe: Recipe, fits: int, memory: float | None) -> str:
    where = "max_tokens" if memory is None else f"the estimate for {memory:g} GiB"
    return (
        f"{where}, {fits} samples, is less than the longest crop, {recipe.longest}: max_tokens becomes that, with an "
        f"estimate of {memory_needed(recipe, recipe.longest):.0f} GiB; --measure tells. Should it not fit, lower "
        "task.max_sample_size or add +model.checkpoint_activations=true"
    )
