"""No setting is taken and ignored: each field of task, model and criterion is read by code that runs, or refused.

Read from the sources: the methods of the class that a training builds, fairseq's included where ours call or leave
them, and the rest of both packages' modules that get the configuration. A value that is only put by under a name of the
object (``self.a = cfg.a``) counts where that name is read.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

import fairseq
import pytest
from fairseq.models.wav2vec import wav2vec2
from fairseq.tasks.audio_pretraining import AudioPretrainingTask

import ccc_w2v
from ccc_w2v import capi, criterion, model, task
from ccc_w2v.augment.pipeline import manifest_settings
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.settings.ignored import IGNORED
from ccc_w2v.settings.model import CccWav2Vec2Config
from ccc_w2v.settings.task import CccPretrainingConfig

# What holds a configuration, by the names that both packages use for it.
HOLDERS = {"cfg", "task_cfg", "model_cfg", "args", "task", "task_config"}
# Rooms that a running pre-training is made of.
ROOMS = ("settings", "dataset", "training", "losses", "augment", "data")
FILES = ("task*.py", "model*.py", "criterion*.py", "cap*.py", "masked_prediction*.py", "compat*.py")
# Settings that no code reads by their own names, with the reason.
REASONS = {
    **dict.fromkeys(manifest_settings(), "read by load_dataset under the names that the transforms declare"),
    **dict.fromkeys(("reuse_dataloader", "persistent_workers"), "refused by name in settings/ignored.py"),
    "inferred_w2v_config": "fairseq 0.12.2's own copy of the model's masks, filled by interpolation; for TPUs, refused",
}


@dataclass
class Reads:
    """What a piece of source reads: fields of a configuration, names of objects, and where a field is put by."""

    settings: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    put_by: dict[str, set[str]] = field(default_factory=dict)

    def add(self, tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _holder(node) not in HOLDERS:
                self.names.add(node.attr)
        kept = {id(node.value): node for node in ast.walk(tree) if isinstance(node, ast.Assign)}
        for node in ast.walk(tree):
            for name in _setting(node):
                assigned = kept.get(id(node))
                target = assigned.targets[0] if assigned is not None else None
                if isinstance(target, ast.Attribute) and _holder(target) == "self":
                    self.put_by.setdefault(name, set()).add(target.attr)
                else:
                    self.settings.add(name)

    def used(self, name: str) -> bool:
        return name in self.settings or bool(self.put_by.get(name, set()) & self.names)


def _holder(node: Any) -> str | None:
    return getattr(node.value, "id", getattr(node.value, "attr", None))


def _setting(node: ast.AST) -> Iterator[str]:
    """Yield the field of a configuration that an expression reads, if any: cfg.a, getattr(cfg, "a"), cfg.get("a")."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _holder(node) in HOLDERS:
        yield node.attr
    if isinstance(node, ast.Call) and node.args:
        named = getattr(node.func, "id", None) == "getattr" and len(node.args) > 1
        holder, key = (node.args[0], node.args[1]) if named else (getattr(node.func, "value", None), node.args[0])
        if not named and getattr(node.func, "attr", None) != "get":
            return
        if getattr(holder, "id", getattr(holder, "attr", None)) in HOLDERS and isinstance(key, ast.Constant):
            yield str(key.value)


def methods(kind: type, called: set[str]) -> Iterator[ast.AST]:
    """Yield the methods that an object of a class runs: those that a subclass replaces only where it calls them."""
    replaced: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("fairseq", "ccc_w2v", __name__.partition(".")[0]):
            continue
        for name, attribute in vars(base).items():
            function = attribute.fget if isinstance(attribute, property) else getattr(attribute, "__func__", attribute)
            if not inspect.isfunction(function) or name in replaced or (name not in called and name[:2] != "__"):
                continue
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
            yield tree
            if not any(_calls_super(node, name) for node in ast.walk(tree)):
                replaced.add(name)


def _calls_super(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", None) == "super"
    )


def parts_of(module: ModuleType, but: type) -> Iterator[ast.AST]:
    """Yield a module's functions and classes, but for one class, of which methods() tells, and configurations."""
    for part in vars(module).values():
        own = getattr(part, "__module__", None) == module.__name__
        if own and not (inspect.isclass(part) and (issubclass(part, but) or is_dataclass(part))):
            yield ast.parse(textwrap.dedent(inspect.getsource(part)))


@pytest.fixture(scope="module")
def called() -> set[str]:
    """Every name that either package's code speaks of as an attribute: a method of another name is never run."""
    names: set[str] = set()
    for package in (fairseq, ccc_w2v):
        for path in Path(package.__path__[0]).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names


def ours() -> Iterator[ast.AST]:
    """Yield the modules of this package that a pre-training runs, without the classes that methods() tells of."""
    folder = Path(ccc_w2v.__path__[0])
    paths = [path for room in ROOMS for path in (folder / room).rglob("*.py")]
    paths += [path for pattern in FILES for path in folder.glob(pattern)]
    for path in paths:
        yield ast.parse(path.read_text(encoding="utf-8"))


def unused(configuration: Any, kind: type, more: list[ast.AST], called: set[str]) -> list[str]:
    """Return the fields of a configuration that nothing reads, nothing refuses and no reason excuses."""
    reads = Reads()
    for tree in [*ours(), *methods(kind, called), *more]:
        reads.add(tree)
    names = [setting.name for setting in fields(configuration)]
    return [name for name in names if not reads.used(name) and name not in IGNORED and name not in REASONS]


WAV2VEC2 = wav2vec2.Wav2Vec2Model
PARTS = [
    pytest.param(CccPretrainingConfig, task.CccPretrainingTask, [], id="task"),
    pytest.param(CccWav2Vec2Config, model.CccWav2Vec2Model, list(parts_of(wav2vec2, WAV2VEC2)), id="model"),
    pytest.param(CccCriterionConfig, criterion.CccCriterion, [], id="ccc"),
    pytest.param(capi.CapiCriterionConfig, capi.CapiCriterion, [], id="capi"),
]


@pytest.mark.parametrize(("configuration", "kind", "more"), PARTS)
def test_every_setting_is_used_or_refused(configuration, kind, more, called):
    assert unused(configuration, kind, more, called) == []


@pytest.mark.parametrize(("configuration", "kind", "more"), PARTS)
def test_a_setting_that_nothing_reads_is_found(configuration, kind, more, called):
    wider = make_dataclass("Wider", [("spare_setting", int, 1)], bases=(configuration,))
    assert unused(wider, kind, more, called) == ["spare_setting"]


def test_what_fairseqs_task_would_read_and_ours_does_not_is_found(called):
    reads, theirs = Reads(), Reads()
    for tree in [*ours(), *methods(task.CccPretrainingTask, called)]:
        reads.add(tree)
    for tree in methods(AudioPretrainingTask, called):
        theirs.add(tree)
    for name in ("binarized_dataset", "num_batch_buckets", "text_compression_level"):
        assert theirs.used(name)
        assert not reads.used(name)


def test_a_value_put_by_counts_only_where_it_is_read():
    reads = Reads()
    reads.add(ast.parse("self.kept = cfg.kept\nself.spare = cfg.spare\nself.other = f(cfg.given)\nprint(self.kept)"))
    assert [name for name in ("kept", "spare", "given") if reads.used(name)] == ["kept", "given"]


def test_reasons_are_for_settings_that_exist_in_one_of_the_two_fairseqs_and_are_needed(called):
    known = {setting.name for setting in fields(CccPretrainingConfig)} | {"inferred_w2v_config"}
    assert set(REASONS) <= known


@pytest.mark.parametrize(("configuration", "kind", "more"), PARTS)
def test_no_setting_has_a_type_that_omegaconf_2_0_does_not_know(configuration, kind, more):
    assert [setting.name for setting in fields(configuration) if isinstance(setting.type, UnionType)] == []
