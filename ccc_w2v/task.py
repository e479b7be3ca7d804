"""`ccc_pretraining`: a manifest becomes a two-view dataset; the run states its plan and counts what it processes."""

import functools
import logging
from typing import Any

import torch
import torch.distributed
from fairseq import utils
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingTask
from omegaconf import ListConfig

from ccc_w2v.augment.pipeline import Pipeline
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.dataset.epochs import lean
from ccc_w2v.dataset.load import load_split, pipeline_of
from ccc_w2v.dataset.mixture import MixedPipeline, MixtureDataset
from ccc_w2v.dataset.views import with_both_views, with_single_view
from ccc_w2v.errors import InputError, one_line_errors
from ccc_w2v.settings.ignored import refuse_ignored
from ccc_w2v.settings.model import refuse_unsupported
from ccc_w2v.settings.task import CccPretrainingConfig
from ccc_w2v.training.data_wait import WaitClock, watch_batches
from ccc_w2v.training.determinism import use_deterministic_algorithms
from ccc_w2v.training.health.history import folder_of_run
from ccc_w2v.training.health.monitor import HealthMonitor
from ccc_w2v.training.health.rules import load_rules
from ccc_w2v.training.health.updates import UpdateWatch, trainer_values, window_values
from ccc_w2v.training.lost_batch import end_on_bad_audio, weightless
from ccc_w2v.training.plain_signals import as_ours
from ccc_w2v.training.plan_line import plan_line
from ccc_w2v.training.run_lock import lock_run
from ccc_w2v.training.shown_pairs import show_pairs
from ccc_w2v.training.teacher import teacher_frames
from ccc_w2v.training.totals import DATA_TIMES, PROCESSED, Totals, empty_counts, without_counted

logger = logging.getLogger(__name__)

NOT_KEPT = ("wps", "wpb", "bsz")  # fairseq's speeds over an interval, which a single update does not have
OURS = ("ccc", "capi")  # criterions that take both views
APART = ("clustering", "membership")  # what they train by themselves, in the task's state


@register_task("ccc_pretraining", dataclass=CccPretrainingConfig)
class CccPretrainingTask(AudioPretrainingTask):
    """Pre-training on an utterance and its augmentation together (arXiv 2210.02592)."""

    cfg: CccPretrainingConfig

    def __init__(self, cfg: CccPretrainingConfig):
        super().__init__(cfg)
        self._pipeline: Pipeline | None = None
        self._mixed: MixedPipeline | None = None  # all corpora's pipelines, where a mixture is trained on
        self._model: Any = None  # what load_dataset asks about its needs; None where there is only data
        self._clock = WaitClock()
        self._updates = -1  # the number of the update that was made last, from 0
        self._training = False
        self._watch = UpdateWatch()
        self._skipped = 0
        self._totals = Totals(cfg)
        self._criterion: Any = None
        self._monitor: HealthMonitor | None = None
        self.collapse: str | None = None  # why the run ends, once a validation has found it collapsed
        # In the task's state: see get_checkpoint_dict.
        self.state.add_factory("counts", empty_counts)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """Give the task's state to the checkpoint, by the name that fairseq looks for when a training resumes."""
        state = dict(self.state.state_dict)
        state |= {name: part.state_dict() for name, part in self._trained_apart().items()}
        return {type(self).__name__: utils.move_to_cpu(state)}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Take the task's state from the checkpoint that a training resumes from."""
        self._take_apart(state)
        self.state.merge_state_dict({name: value for name, value in state.items() if name not in APART})

    def start_from(self, state: dict[str, Any]) -> None:
        """Take what another training, whose weights this one starts from, trained apart; optimisers start anew."""
        self._take_apart({name: {**state[name], "optimizer": {}} for name in APART if name in state})

    def _take_apart(self, state: dict[str, Any]) -> None:
        for name, part in self._trained_apart().items():
            if state.get(name) is not None:
                with one_line_errors():
                    part.load_state_dict(state[name])

    @property
    def _prediction(self) -> Any:
        """The criterion's masked prediction; None where it has none."""
        return getattr(self._criterion, "prediction", None)

    def _trained_apart(self) -> dict[str, Any]:
        """Return what the criterion trains by itself, with optimisers of its own, by its name in checkpoints."""
        parts = (getattr(self._prediction, "clustering", None), getattr(self._criterion, "membership", None))
        return {name: part for name, part in zip(APART, parts, strict=True) if part is not None}

    def _negative_policy(self) -> Any:
        """Return the policy by which the criterion draws negatives; None where it has none."""
        return self._criterion.negative_policy() if hasattr(self._criterion, "negative_policy") else None

    @property
    def uses_ema(self) -> bool:
        """Tell fairseq's trainer whether the steps want its moving average of the model: the teacher."""
        return self._prediction is not None

    @property
    def teacher_momentum(self) -> Any:
        """The teacher's momentum by update (training/teacher.py); None where there is no teacher."""
        return self._prediction.momentum if self.uses_ema else None

    @property
    def encoder_width(self) -> int:
        """Return the width E of the model's Transformer."""
        return self._model.cfg.encoder_embed_dim

    @property
    def target_width(self) -> int:
        """Return the width D of the model's targets."""
        return self._model.project_q.out_features

    @property
    def encoder_layers(self) -> int:
        """Return how many layers the model's Transformer has."""
        return self._model.cfg.encoder_layers

    def load_dataset(self, split: str, task_cfg: Any = None, **kwargs: Any) -> None:
        """Read <data>/<split>.tsv and check it; a user's mistake ends the run with one line and exit code 2."""
        cfg = task_cfg or self.cfg
        with one_line_errors():
            if self._pipeline is None:
                # One for all splits: they and their data workers share its index and its rooms.
                self._pipeline = pipeline_of(cfg)
            dataset = load_split(cfg, split, self._pipeline, self._model)
            if isinstance(dataset, MixtureDataset):
                self._mixed = dataset.pipeline
                for name in dataset.names:
                    self.state.counts.setdefault(f"{PROCESSED}{name}", 0)
            if _rank() == 0:
                dataset.check_headers(cfg.check_headers)
                if split == cfg.train_subset:
                    self._lock = lock_run(cfg.save_dir)
            # Before the data workers are forked: each would otherwise simulate the rooms for itself, every epoch.
            dataset.pipeline.prepare()
        self.datasets[split] = dataset

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return fairseq's iterator, over arrays; how long a training waits for its batches is timed."""
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        lean(iterator)
        if dataset is self.datasets.get(self.cfg.train_subset):
            watch_batches(iterator, self._clock)
        return iterator

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """Judge the run's health so far; show a few pairs of views of the training set in TensorBoard."""
        super().begin_valid_epoch(epoch, model)
        cfg = self.cfg
        if self._monitor is not None:
            verdict = self._monitor.verdict()
            if verdict.status == "collapsed" and cfg.stop_on_collapse:
                self.collapse = verdict.sentence()
        dataset = self.datasets.get(cfg.train_subset)
        if dataset is None or not cfg.tensorboard_logdir or cfg.tensorboard_pairs < 1 or _rank() != 0:
            return
        update = self._updates + 1
        generator = generator_for(cfg.seed, "pairs", update)
        shown = torch.randint(len(dataset), (cfg.tensorboard_pairs,), generator=generator).tolist()
        samples = [self._with_both_views(dataset.collater([dataset[index]]), model) for index in shown]
        show_pairs(cfg.tensorboard_logdir, samples, model, self._criterion, cfg.sample_rate, update)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the model; for training, refuse settings that two views cannot share or replay."""
        if not from_checkpoint:
            with one_line_errors():
                refuse_ignored(self.cfg)
                refuse_unsupported(cfg)
            if self.cfg.deterministic:
                use_deterministic_algorithms()
        model = super().build_model(cfg, from_checkpoint)
        if not from_checkpoint:
            self._model = model
            self._plan = plan_line(self.cfg, cfg)
            logger.info(self._plan)
        return model

    def build_criterion(self, cfg: Any) -> Any:
        """Build the criterion; a setting out of its range ends the run with one line and exit code 2."""
        with one_line_errors():
            both, ours = str(self.cfg.views) == "both", cfg._name in OURS
            if both != ours:
                raise InputError(
                    f"criterion {cfg._name} does not take task.views={self.cfg.views}; ccc and capi take both, "
                    "fairseq's wav2vec original or augmented"
                )
            self._rules = load_rules(self.cfg.health_bands)
            self._criterion = super().build_criterion(cfg)
            if self.cfg.annotations and "membership" not in self._trained_apart():
                raise InputError(
                    "task.annotations is read by criterion.cluster_scope=annotated alone; set that, or leave it out"
                )
        return self._criterion

    def describe(self) -> str:
        """Return the plan line of this run, for its record."""
        return self._plan

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
        ema_model: Any = None,
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Run fairseq's step and log how many unreadable utterances the batch lost; end the run if it must end."""
        end_on_bad_audio(sample)
        if self._watch.batches % self._accumulated == 0:
            for part in self._trained_apart().values():
                part.forget()  # of an update that fp16 has skipped
        if not self._training and (policy := self._negative_policy()) is not None:
            policy.settle()  # a validation has ended
        views = self._with_teacher(self._with_views(sample, model), ema_model, ignored=ignore_grad)
        lost = sample.get("lost", False)
        stepped = super().train_step(views, model, criterion, optimizer, update_num, ignore_grad or lost)
        loss, sample_size, logged = weightless(stepped) if lost else stepped
        if not self._training:
            self._clock.restart()
        self._updates, self._training = update_num, True
        self._watch.batch()
        return loss, sample_size, {**logged, **self._counted(sample, ignored=ignore_grad)}

    def _counted(self, sample: dict[str, Any], *, ignored: bool) -> dict[str, Any]:
        """Return what the task adds to a training batch's log: times, FLOPs, audio.

        A batch that is ``ignored`` is a copy of an earlier one, whose losses are counted already.
        """
        counted: dict[str, Any] = dict(zip(DATA_TIMES, self._clock.lap(), strict=True))
        if hint := self._clock.hint(str(self.cfg.augment_device), self._workers):
            logger.warning(hint)
        counted |= {"flops": 0.0, "bad_audio": 0 if ignored else sample.get("bad_audio", 0)}
        for name, samples in sample.get("processed", {}).items():
            counted[f"{PROCESSED}{name}"] = 0 if ignored else samples
        if not (ignored or sample.get("lost")):
            counted["flops"] = self._totals.flops(sample, self._model, self._criterion)
            if str(self.cfg.views) != "both":
                # fairseq's criterion does not count the audio, as ours does.
                counted["audio_samples"] = sample["net_input"]["source"].numel()
        return counted

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Look at the gradients now and then, and make the optimiser's step."""
        self._skipped = self._watch.stepped(model, update_num, self._accumulated)
        super().optimizer_step(optimizer, model, update_num)
        if self._prediction is not None:
            self._prediction.step(update_num)
        if (membership := self._trained_apart().get("membership")) is not None:
            membership.step()

    # What every update reads of other sections' settings is looked up once: omegaconf takes a quarter of a millisecond.
    @functools.cached_property
    def _workers(self) -> int:
        return self.cfg.num_workers

    @functools.cached_property
    def _accumulated(self) -> int:
        """How many batches make an update."""
        update_freq = self.cfg.update_freq
        return max(update_freq) if isinstance(update_freq, (list, ListConfig)) else update_freq or 1

    def valid_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, ema_model: Any = None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Run fairseq's validation step; end the run if the batch holds an unreadable utterance that must end it."""
        end_on_bad_audio(sample)
        self._training = False
        views = self._with_teacher(self._with_views(sample, model), ema_model)
        stepped = super().valid_step(views, model, criterion)
        return weightless(stepped) if sample.get("lost") else stepped

    def _with_teacher(self, sample: dict[str, Any], teacher: Any, *, ignored: bool = False) -> dict[str, Any]:
        """Return a batch with the teacher's frames where the criterion predicts; of an ignored batch none counts."""
        if not self._trained_apart() or "net_input" not in sample:
            return sample
        sample = {**sample, "ignored": ignored or sample.get("lost", False)}
        if self._prediction is None:
            return sample
        frames = teacher_frames(teacher, sample["net_input"], self._prediction.cfg.teacher_layer)
        return {**sample, **frames}

    def _with_views(self, sample: dict[str, Any], model: Any) -> dict[str, Any]:
        """Return a batch with the views that the model gets."""
        sample = self._with_both_views(sample, model)
        if str(self.cfg.views) == "both" or "net_input" not in sample:
            return sample
        return with_single_view(sample, str(self.cfg.views), model)

    def _with_both_views(self, sample: dict[str, Any], model: Any) -> dict[str, Any]:
        return with_both_views(sample, self._mixed or self._pipeline, self.cfg.normalize, model)

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log the criterion's values, the running totals and the update's speed; keep them as the run's history."""
        with metrics.aggregate() as logged:
            super().reduce_metrics(without_counted(logging_outputs), criterion)
            if self._model is not None:
                for name, value in as_ours(logged.get_smoothed_values(), self._model).items():
                    metrics.log_scalar(name, value, round=4)
            update = self._updates if self._training else None
            seconds = self._totals.log(logging_outputs, self.state.counts, self._model, update)
            if self._training:
                self._watch.log(self._skipped)
        if not self._training and (policy := self._negative_policy()) is not None:
            policy.observe_logs(logging_outputs)
        if self._training:
            values = {name: value for name, value in logged.get_smoothed_values().items() if name not in NOT_KEPT}
            self._watch.repeat_slow(values)
            self._keep(values | trainer_values() | window_values(), seconds)

    def _keep(self, values: dict[str, float], seconds: float) -> None:
        """Add the values of an update, which took some seconds, to the run's history."""
        if _rank() != 0:
            return
        if self._monitor is None:
            folder = folder_of_run(self.cfg.save_dir)
            self._monitor = HealthMonitor(folder, self._rules, self.cfg.log_interval, self._updates)
        self._monitor.add(self._updates + 1, values, seconds)

    def report_end(self) -> None:
        """Say at the end of a training how often an unreadable utterance was left out."""
        times = self.state.counts["bad_audio"]
        if times or str(self.cfg.on_bad_audio) == "skip":
            logger.warning(f"on_bad_audio=skip: unreadable utterances were left out {times} times in all epochs")


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
