"""A plan for a person (a table with its sources), for hydra (YAML) and for a shell (a command)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ccc_w2v.planning.plan import CHECKPOINT_BYTES, KNOWN_MEMORY, WER_BY_HOURS, Plan, Recipe

if TYPE_CHECKING:
    from ccc_w2v.planning.trial import Trial

CHECKPOINTS = f"{CHECKPOINT_BYTES['fp16']} bytes a parameter (fp32: {CHECKPOINT_BYTES['fp32']})"
SOURCES = f"""\
memory needed   weights, gradients, optimiser, and the activations of one view of the longest crop, none kept twice
max_tokens      estimated: the recipe's is known to fit {KNOWN_MEMORY:.0f} GiB with one view (arXiv 2006.11477), two
                take twice as much; --measure tells what a GPU really holds, --max-tokens sets it
learning rate   the recipe's, times best rate of this batch / best rate of the recipe's (arXiv 2402.13723)
warm-up         the recipe's share of the updates
disk            checkpoints of {CHECKPOINTS}; TensorBoard without its sounds"""
WER = "WER of wav2vec 2.0 after it"
WER_SOURCE = "of test-clean / test-other: BASE, fine-tuned on 100 h, no language model (arXiv 2402.13723)"


def table(plans: Sequence[Plan], trial: Trial | None = None) -> str:
    """Lay plans of one recipe side by side; below them where the numbers are from, and what to mind."""
    recipe = plans[0].recipe
    columns = [_rows(plan) for plan in plans]
    names = list(columns[0])
    wide = max(map(len, names))
    widths = [max(len(column[name]) for name in names) for column in columns]
    lines = [f"{recipe.name}: {recipe.parameters / 1e6:.1f} million parameters, {_views(recipe.views)}"]
    for name in names:
        cells = "  ".join(f"{column[name]:>{width}}" for column, width in zip(columns, widths, strict=True))
        lines.append(f"{name:<{wide}}  {cells}")
    if recipe.pretraining:
        lines += ["", SOURCES]
        if _comparable(recipe):
            lines.append(f"WER             {WER_SOURCE}")
    if trial:
        lines += ["", _measured(trial, plans[0])]
    else:
        lines.append("wall time       not measured: --measure trains 20 updates here")
    for plan in plans:
        lines += [f"warning: {plan.gpus} GPU{'s' * (plan.gpus > 1)}: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def _comparable(recipe: Recipe) -> bool:
    """Tell whether the published WER by hours processed can stand beside a recipe: it was measured for BASE."""
    return recipe.pretraining and round(recipe.parameters / 1e6) == 95


def _views(views: int) -> str:
    return "two views of each utterance" if views == 2 else "one view of each utterance"


def _rows(plan: Plan) -> dict[str, str]:
    recipe, hours = plan.recipe, plan.wall_hours
    rows = {
        "GPUs": str(plan.gpus),
        "memory of each": "not given" if plan.memory is None else f"{plan.memory:.0f} GiB",
        "  at least needed": f"{recipe.least_memory:.1f} GiB",
        "dataset.max_tokens": f"{plan.max_tokens:,}",
        "optimization.update_freq": str(plan.update_freq),
        "audio per update": f"{plan.batch_seconds:,.1f} s",
        "  of it filled": "no corpus yet" if plan.filled is None else f"{plan.filled:.1%}",
        "optimization.lr": f"{plan.lr:.3g}",
        "lr_scheduler.warmup_updates": "phase_ratio" if plan.warmup_updates is None else f"{plan.warmup_updates:,}",
        "optimization.max_update": f"{plan.updates:,}",
        "audio processed": f"{plan.hours_processed:,.1f} h",
    }
    if _comparable(recipe):
        rows[WER] = _expected(plan.hours_processed)
    rows["wall time"] = "not measured" if hours is None else _duration(hours)
    rows["GPU-hours"] = "not measured" if hours is None else f"{hours * plan.gpus:,.2f}"
    rows["disk"] = f"{plan.disk_gb:.1f} GB"
    return rows


def _expected(hours: float) -> str:
    """WER of the largest amount of audio in the table that is processed."""
    reached = [row for row in WER_BY_HOURS if row[0] <= hours]
    return f"{reached[-1][1]} / {reached[-1][2]}" if reached else f"above {WER_BY_HOURS[0][1]} / {WER_BY_HOURS[0][2]}"


def _duration(hours: float) -> str:
    return f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"


def _measured(trial: Trial, plan: Plan) -> str:
    line = (
        f"measured        {trial.step_seconds:.3f} s for a batch of max_tokens on {trial.device}; the exchange of "
        "gradients between GPUs comes on top"
    )
    if trial.memory is not None:
        line += f"\n                {trial.memory:.1f} GiB of GPU memory at most"
        if plan.memory:
            # Half a GiB for what lies beside torch's tensors; a tenth against fragmentation.
            state = plan.recipe.state_memory
            more = (0.9 * plan.memory - 0.5 - state) / max(trial.memory - state, 1e-3)
            line += f" of {plan.memory:.0f}: about --max-tokens {int(more * plan.max_tokens):,d}".replace(",", "")
            line += " would fit"
    return line


def overlay(plan: Plan) -> str:
    """Return the plan as YAML for hydra: <config-dir>/plan/NAME.yaml and the override +plan=NAME."""
    values: dict = {}
    for override in plan.overrides():
        key, value = override.split("=", 1)
        section, name = key.split(".")
        values.setdefault(section, {})[name] = yaml.safe_load(value)
    facts = f"{plan.recipe.name} on {plan.gpus} GPU(s): {plan.batch_seconds:.1f} s of audio per update"
    warned = "".join(f"# warning: {warning}\n" for warning in plan.warnings)
    return f"# @package _global_\n# {facts}, {plan.hours_processed:.1f} h processed.\n{warned}{yaml.safe_dump(values)}"


def command(
    config: Path, plan: Plan, overrides: Sequence[str], missing: Sequence[str] = (), manifest: str | None = None
) -> str:
    """Return the training as a command line that can be pasted, from any folder.

    ``missing`` are settings that the configuration leaves to the user: the data is that of ``manifest`` where it is
    given; for the others stands a shell's ${name:?}, which says what to set before anything starts.
    """
    words = ["fairseq-hydra-train", "--config-dir", str(config.resolve().parent), "--config-name", config.stem]
    named = {override.lstrip("+~").partition("=")[0] for override in overrides}
    if "common.user_dir" not in named:
        words.append(f"common.user_dir={Path(__file__).resolve().parents[1]}")
    if manifest and "task.data" in missing:
        path = Path(manifest).resolve()
        words += [f"task.data={path.parent}", f"dataset.train_subset={path.stem}"]
        missing = [name for name in missing if name != "task.data"]
    # The plan's last: what the user overrides went into it.
    quoted = shlex.join([*words, *overrides, *plan.overrides()])
    unset = [f'{name}="${{{name.rpartition(".")[2]}:?set it to what {name} is to be}}"' for name in missing]
    return " ".join([quoted, *unset])
