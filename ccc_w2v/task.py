"""`ccc_pretraining`: a manifest becomes a two-view dataset; the run states its plan and counts what it has heard."""

import fcntl
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
import torch.distributed
from fairseq import utils
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from omegaconf import II, ListConfig
from torch.utils.tensorboard import SummaryWriter

from ccc_w2v.augment.pipeline import Pipeline, load_pipeline, manifest_settings
from ccc_w2v.augment.preview import log_pairs
from ccc_w2v.capacity import check_lengths
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.dataset.epochs import lean
from ccc_w2v.dataset.two_view import BAD_AUDIO_POLICIES, TwoViewDataset
from ccc_w2v.dataset.views import AUGMENT_DEVICES, two_views
from ccc_w2v.errors import InputError, one_line_errors
from ccc_w2v.ignored_settings import refuse_ignored
from ccc_w2v.model import precision_chosen, refuse_unsupported, uses_bf16
from ccc_w2v.training.data_wait import WaitClock, watch_batches
from ccc_w2v.training.determinism import use_deterministic_algorithms
from ccc_w2v.training.health.history import folder_of_run
from ccc_w2v.training.health.monitor import HealthMonitor
from ccc_w2v.training.health.pictures import log_codes_and_clusters
from ccc_w2v.training.health.rules import load_rules
from ccc_w2v.training.health.updates import UpdateWatch, trainer_values, window_values
from ccc_w2v.training.plain_signals import as_ours
from ccc_w2v.training.teacher import teacher_frames
from ccc_w2v.training.utilisation import matmul_flops_per_second, training_flops

logger = logging.getLogger(__name__)

VIEWS = ("both", "original", "augmented")
NOT_KEPT = ("wps", "wpb", "bsz")  # fairseq's speeds over an interval, which a single update does not have
OURS = ("ccc", "capi")  # criterions that take both views
DATA_TIMES = ("data_wait", "data_passed")  # seconds waited for data, of how many seconds


@dataclass
class CccPretrainingConfig(AudioPretrainingConfig):
    """fairseq's audio_pretraining plus the second view."""

    augment: str = field(
        default="paper", metadata={"help": "augmentation of the second view: a preset's name or a YAML file's path"}
    )
    views: ChoiceEnum(VIEWS) = field(  # type: ignore[valid-type]
        default="both",
        metadata={
            "help": "views that the model gets; one alone is for criterion wav2vec: wav2vec 2.0 on the same crops in "
            "the same order under the same masks"
        },
    )
    augment_device: ChoiceEnum(AUGMENT_DEVICES) = field(  # type: ignore[valid-type]
        default="cpu",
        metadata={"help": "where the second view is computed: in the data workers, or where the model is"},
    )
    noise_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of noises for transforms that mix one in"}
    )
    music_manifest: Optional[str] = field(default=None, metadata={"help": "manifest (.tsv) of music to mix in"})
    babble_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of voices to mix in; default: the training manifest"}
    )
    rir_manifest: Optional[str] = field(
        default=None, metadata={"help": "manifest (.tsv) of impulse responses for recorded_reverb"}
    )
    resample: bool = field(
        default=False, metadata={"help": "resample recordings of another rate as they are read, else refuse them"}
    )
    accept_left_out: bool = field(
        default=False, metadata={"help": "train although min_sample_size leaves out more than half of the utterances"}
    )
    crop_step: int = field(
        default=1,
        metadata={
            "help": "crops have min_sample_size plus a multiple of so many samples, or max_sample_size: 16000 gives "
            "torch.compile and cuDNN a few lengths instead of thousands, for up to so much audio of each crop"
        },
    )
    deterministic: bool = field(
        default=False,
        metadata={
            "help": "let torch, cuDNN and cuBLAS add in a fixed order, so that a run on GPUs can be repeated bit for "
            "bit; slower, see docs/several-gpus.md"
        },
    )
    on_bad_audio: ChoiceEnum(BAD_AUDIO_POLICIES) = field(  # type: ignore[valid-type]
        default="raise", metadata={"help": "what an unreadable utterance does in the middle of an epoch"}
    )
    check_headers: int = field(
        default=2000, metadata={"help": "how many files' headers are compared with the manifest at start, >= 0"}
    )
    # fairseq-fixed would keep its data workers, and with them the first epoch's crops and augmentation, for all epochs.
    reuse_dataloader: bool = field(default=False, metadata={"help": "must stay false: workers learn the epoch anew"})
    persistent_workers: bool = field(default=False, metadata={"help": "must stay false: workers learn the epoch anew"})
    tensorboard_pairs: int = field(
        default=3, metadata={"help": "pairs of views shown in TensorBoard at each validation, >= 0"}
    )
    stop_on_collapse: bool = field(
        default=False,
        metadata={"help": "end the run, exit code 3, when a validation finds it collapsed; see `ccc-w2v health`"},
    )
    health_bands: Optional[str] = field(
        default=None, metadata={"help": "YAML of what is healthy, in place of manifests/health_bands.yaml"}
    )
    tensorboard_logdir: Optional[str] = II("common.tensorboard_logdir")
    log_interval: int = II("common.log_interval")
    # fairseq 0.12.2 has no such field in its own task configuration.
    seed: int = II("common.seed")
    # What the plan line is made of.
    save_dir: str = II("checkpoint.save_dir")
    num_workers: int = II("dataset.num_workers")
    train_subset: str = II("dataset.train_subset")
    max_tokens: Optional[int] = II("dataset.max_tokens")
    batch_size: Optional[int] = II("dataset.batch_size")
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    update_freq: Any = II("optimization.update_freq")
    max_update: int = II("optimization.max_update")
    world_size: int = II("distributed_training.distributed_world_size")
    # The teacher of masked prediction.
    store_ema: bool = II("ema.store_ema")
    ema_fp32: bool = II("ema.ema_fp32")


@register_task("ccc_pretraining", dataclass=CccPretrainingConfig)
class CccPretrainingTask(AudioPretrainingTask):
    """Pre-training on an utterance and its augmentation together (arXiv 2210.02592)."""

    cfg: CccPretrainingConfig

    def __init__(self, cfg: CccPretrainingConfig):
        super().__init__(cfg)
        self._pipeline: Optional[Pipeline] = None
        self._model: Any = None  # what load_dataset asks about its needs; None where there is only data
        self._clock = WaitClock()
        self._updates = -1  # the number of the update that was made last, from 0
        self._training = False
        self._watch = UpdateWatch()
        self._skipped = 0
        self._limit: Optional[float] = None  # FLOPs per second that the device reaches in a matrix product
        self._criterion: Any = None
        self._monitor: Optional[HealthMonitor] = None
        self.collapse: Optional[str] = None  # why the run ends, once a validation has found it collapsed
        # In the task's state: see get_checkpoint_dict.
        self.state.add_factory("counts", lambda: {"audio_samples": 0, "bad_audio": 0})

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """Give the task's state to the checkpoint, by the name that fairseq looks for when a training resumes."""
        state = dict(self.state.state_dict)
        if self._prediction is not None:
            state["clustering"] = self._prediction.clustering.state_dict()
        return {type(self).__name__: utils.move_to_cpu(state)}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Take the task's state from the checkpoint that a training resumes from."""
        state = dict(state)
        clustering = state.pop("clustering", None)
        if clustering is not None and self._prediction is not None:
            with one_line_errors():
                self._prediction.clustering.load_state_dict(clustering)
        self.state.merge_state_dict(state)

    @property
    def _prediction(self) -> Any:
        """The criterion's masked prediction; None where it has none."""
        return getattr(self._criterion, "prediction", None)

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
    def encoder_layers(self) -> int:
        """Return how many layers the model's Transformer has."""
        return self._model.cfg.encoder_layers

    def load_dataset(self, split: str, task_cfg: Any = None, **kwargs: Any) -> None:
        """Read <data>/<split>.tsv and check it; a user's mistake ends the run with one line and exit code 2."""
        cfg = task_cfg or self.cfg
        with one_line_errors():
            dataset = TwoViewDataset(
                read_manifest(Path(cfg.data) / f"{split}.tsv"),
                self._shared_pipeline(cfg),
                cfg.sample_rate,
                cfg.seed,
                max_sample_size=cfg.max_sample_size,
                min_sample_size=cfg.min_sample_size or 0,
                pad=cfg.enable_padding,
                normalize=cfg.normalize,
                on_bad_audio=str(cfg.on_bad_audio),
                augment_device=str(cfg.augment_device),
                resample=cfg.resample,
                accept_left_out=cfg.accept_left_out,
                crop_step=cfg.crop_step,
            )
            if self._model is not None:
                dataset.name_too_long(cfg.max_tokens, accepted=cfg.accept_left_out)
                check_lengths(dataset, self._model, cfg, training=split == cfg.train_subset)
            if _rank() == 0:
                dataset.check_headers(cfg.check_headers)
                if split == cfg.train_subset:
                    self._lock = lock_run(cfg.save_dir)
            # Before the data workers are forked: each would otherwise simulate the rooms for itself, every epoch.
            dataset.pipeline.prepare()
        self.datasets[split] = dataset

    def _shared_pipeline(self, cfg: Any) -> Pipeline:
        """Return the pipeline of all splits: they and their data workers share its index and its rooms."""
        if self._pipeline is None:
            manifests = {name: getattr(cfg, name) for name in manifest_settings()}
            speech = Path(cfg.data) / f"{cfg.train_subset}.tsv"
            self._pipeline = load_pipeline(
                cfg.augment, cfg.sample_rate, fallbacks={"babble_manifest": speech}, **manifests
            )
        return self._pipeline

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
        samples = [self._made_views(dataset.collater([dataset[index]]), model) for index in shown]
        # A batch of one that is bad has no pair to show; the training itself reports it.
        inputs = [sample["net_input"] for sample in samples if "error" not in sample and "lost" not in sample]
        pairs = [(views["source"][0].float().cpu(), views["source_aug"][0].float().cpu()) for views in inputs]
        with SummaryWriter(os.path.join(cfg.tensorboard_logdir, "pairs")) as writer:
            log_pairs(writer, pairs, cfg.sample_rate, update)
            # A model that is spread over processes cannot run on the first of them alone.
            if self._criterion is not None and type(model).__name__ != "FullyShardedDataParallel":
                good = [sample for sample in samples if "error" not in sample and "lost" not in sample]
                good = [self._on_device(sample, model) for sample in good]
                log_codes_and_clusters(writer, model, self._criterion, good, cfg.sample_rate, update)

    def _on_device(self, sample: dict[str, Any], model: Any) -> dict[str, Any]:
        """Return a batch of one on the model's device and in its precision."""
        parameter = next(model.parameters())
        moved = utils.move_to_cuda(sample) if parameter.is_cuda else sample
        views = moved["net_input"]
        return {
            **moved,
            "net_input": views | {name: views[name].to(parameter.dtype) for name in ("source", "source_aug")},
        }

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
            self._plan = self.plan(cfg)
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
        return self._criterion

    def describe(self) -> str:
        """Return the plan line of this run, for its record."""
        return self._plan

    def plan(self, model_cfg: Any) -> str:
        """Say what the run is about to do: processes, audio per update, hours, views, masking, where it is saved."""
        cfg = self.cfg
        accumulated = cfg.update_freq[0] if isinstance(cfg.update_freq, list) or cfg.update_freq else 1
        views = "2 views" if str(cfg.views) == "both" else f"the {cfg.views} view alone"
        batches = cfg.world_size * accumulated
        seconds = (cfg.max_tokens or 0) * batches / cfg.sample_rate
        audio = f"up to {seconds:.0f} s of audio per update, {cfg.max_update} updates"
        audio += f" = up to {seconds * cfg.max_update / 3600:.1f} h heard"
        if not cfg.max_tokens:
            audio = f"up to {(cfg.batch_size or 0) * batches} utterances per update, {cfg.max_update} updates"
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = precision_chosen(str(getattr(model_cfg, "autocast", "none")), device)
        deterministic = ", deterministic algorithms" if cfg.deterministic else ""
        return (
            f"plan: {cfg.world_size} process(es), {audio}, {views}{precision}{deterministic}, augmentation "
            f"{cfg.augment}, mask_prob {model_cfg.mask_prob} in "
            f"spans of {model_cfg.mask_length} frames, checkpoints in "
            f"{os.path.abspath(cfg.save_dir)}"
        )

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
        _end_on_bad_audio(sample)
        if self._prediction is not None and self._watch.batches % self._accumulated() == 0:
            self._prediction.clustering.forget()  # of an update that fp16 has skipped
        if not self._training and (policy := self._negative_policy()) is not None:
            policy.settle()  # a validation has ended
        views = self._with_teacher(self._with_views(sample, model), ema_model, ignored=ignore_grad)
        # A dummy batch (ignore_grad) is a copy of an earlier one, whose losses are counted already.
        bad_audio = 0 if ignore_grad else sample.get("bad_audio", 0)
        stepped = super().train_step(
            views,
            model,
            criterion,
            optimizer,
            update_num,
            ignore_grad or sample.get("lost", False),
        )
        loss, sample_size, logged = _nothing(stepped) if sample.get("lost") else stepped
        if not self._training:
            self._clock.restart()
        self._updates, self._training = update_num, True
        self._watch.batch()
        waited, passed = self._clock.lap()
        if hint := self._clock.hint(str(self.cfg.augment_device), self.cfg.num_workers):
            logger.warning(hint)
        times = dict(zip(DATA_TIMES, (waited, passed), strict=True))
        if str(self.cfg.views) != "both" and not (ignore_grad or sample.get("lost")):
            # fairseq's criterion does not count the audio, as ours does.
            logged = {**logged, "audio_samples": sample["net_input"]["source"].numel()}
        times["flops"] = 0.0 if ignore_grad or sample.get("lost") else self._flops(sample)
        return loss, sample_size, {**logged, **times, "bad_audio": bad_audio}

    def _flops(self, sample: dict[str, Any]) -> float:
        """Return what a batch costs the network, forward and backward."""
        waves_BS = sample["crops"].waves_BS if "crops" in sample else sample["net_input"]["source"]
        both = str(self.cfg.views) == "both"
        contexts = 2 if both and str(getattr(self._criterion.cfg, "contexts", "both")) == "both" else 1
        utterances, samples = waves_BS.shape
        return float(training_flops(self._model, utterances, samples, 2 if both else 1, contexts))

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Look at the gradients now and then, and make the optimiser's step."""
        self._skipped = self._watch.stepped(model, update_num, self._accumulated())
        super().optimizer_step(optimizer, model, update_num)
        if self._prediction is not None:
            self._prediction.step(update_num)

    def _accumulated(self) -> int:
        """Return how many batches make an update."""
        update_freq = self.cfg.update_freq
        return max(update_freq) if isinstance(update_freq, (list, ListConfig)) else update_freq or 1

    def valid_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, ema_model: Any = None
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Run fairseq's validation step; end the run if the batch holds an unreadable utterance that must end it."""
        _end_on_bad_audio(sample)
        self._training = False
        views = self._with_teacher(self._with_views(sample, model), ema_model)
        stepped = super().valid_step(views, model, criterion)
        return _nothing(stepped) if sample.get("lost") else stepped

    def _with_teacher(self, sample: dict[str, Any], teacher: Any, *, ignored: bool = False) -> dict[str, Any]:
        """Return a batch with the teacher's frames where the criterion predicts; of an ignored batch none counts."""
        if self._prediction is None or "net_input" not in sample:
            return sample
        frames = teacher_frames(teacher, sample["net_input"], self._prediction.cfg.teacher_layer)
        return {**sample, **frames, "ignored": ignored or sample.get("lost", False)}

    def _with_views(self, sample: dict[str, Any], model: Any) -> dict[str, Any]:
        """Return a batch with the views that the model gets; see also _made_views."""
        sample = self._made_views(sample, model)
        if str(self.cfg.views) == "both" or "net_input" not in sample:
            return sample
        views = dict(sample["net_input"])
        augmented = views.pop("source_aug")
        if str(self.cfg.views) == "augmented":
            views["source"] = augmented
        # As two views would be masked; fairseq's own draw cannot be repeated.
        mask_BT = model.draw_mask(views["source"], views.get("padding_mask"), views["seed"], views.get("lengths"))
        views["mask_indices"] = mask_BT.to(augmented.device)
        return {**sample, "net_input": views}

    def _made_views(self, sample: dict[str, Any], model: Any) -> dict[str, Any]:
        """Return a batch with both views, made on the model's device where the data workers have not made them."""
        if "crops" not in sample:
            return sample
        assert self._pipeline is not None, "a batch comes from a dataset, and load_dataset makes the pipeline"
        parameter = next(model.parameters())
        with torch.no_grad():
            views = two_views(sample["crops"].to(parameter.device), self._pipeline, self.cfg.normalize)
        # fairseq has rounded the rest of a batch to the training's precision before.
        return {**sample, "net_input": sample["net_input"] | {k: v.to(parameter.dtype) for k, v in views.items()}}

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log the criterion's values, the running totals and the update's speed; keep them as the run's history."""
        with metrics.aggregate() as logged:
            # fairseq's own criterion would show as its losses what the task counts.
            counted = (*DATA_TIMES, "flops", "audio_samples", "bad_audio")
            losses = [{name: log[name] for name in log if name not in counted} for log in logging_outputs]
            super().reduce_metrics(losses, criterion)
            if self._model is not None:
                for name, value in as_ours(logged.get_smoothed_values(), self._model).items():
                    metrics.log_scalar(name, value, round=4)
            seconds = self._log_totals(logging_outputs)
            if self._training:
                self._watch.log(self._skipped)
        if not self._training and (policy := self._negative_policy()) is not None:
            names = [name.removeprefix("correct_") for log in logging_outputs[:1] for name in log if "correct_" in name]
            correct, frames = (
                float(sum(log[f"{key}_{name}"] for log in logging_outputs for name in names))
                for key in ("correct", "frames")
            )
            policy.observe(correct, frames)
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

    def _log_totals(self, logging_outputs: list[dict[str, Any]]) -> float:
        """Log what is counted over the run, and the speed; returns how long the update took [s]."""
        audio = float(sum(log.get("audio_samples", 0) for log in logging_outputs)) / self.cfg.sample_rate
        counts = self.state.counts
        for key in counts:
            counts[key] += int(sum(log.get(key, 0) for log in logging_outputs))
        waited, passed = (
            float(sum(log.get(key, 0) for log in logging_outputs)) for key in ("data_wait", "data_passed")
        )
        if passed:
            metrics.log_scalar("data_wait_share", waited / passed, weight=passed, round=4)
        seconds = passed / self.cfg.world_size
        if self._training and seconds:
            metrics.log_scalar("audio_per_update", audio, round=1)
            metrics.log_scalar("times_real_time", audio / seconds, weight=seconds, round=2)
            metrics.log_scalar("audio_hours_per_device_hour", audio / passed, weight=passed, round=2)
            self._log_utilisation(float(sum(log.get("flops", 0) for log in logging_outputs)), passed)
            left = max(self.cfg.max_update - self._updates - 1, 0)
            metrics.log_scalar("hours_left", left * seconds / 3600, round=3)
        # Weight 0: a total is shown as it stands, not averaged over the logging interval.
        metrics.log_scalar("audio_seconds", counts["audio_samples"] / self.cfg.sample_rate, weight=0, round=1)
        metrics.log_scalar("bad_audio", counts["bad_audio"], weight=0)
        return seconds

    def _log_utilisation(self, flops: float, passed: float) -> None:
        """Log which share of the device's matrix products an update's needed FLOPs are, in device seconds passed."""
        if not flops:
            return
        if self._limit is None:
            device = next(self._model.parameters()).device
            in_bf16 = self.cfg.bf16 or uses_bf16(str(getattr(self._model.cfg, "autocast", "none")), device)
            dtype = torch.bfloat16 if in_bf16 else torch.float16 if self.cfg.fp16 else torch.float32
            self._limit = matmul_flops_per_second(dtype, device)
        metrics.log_scalar("mfu", flops / passed / self._limit, weight=passed, round=4)

    def report_end(self) -> None:
        """Say at the end of a training how often an unreadable utterance was left out."""
        if str(self.cfg.on_bad_audio) == "skip":
            times = self.state.counts["bad_audio"]
            logger.warning(f"on_bad_audio=skip: unreadable utterances were left out {times} times in all epochs")


def _nothing(stepped: tuple[Any, Any, dict[str, Any]]) -> tuple[Any, Any, dict[str, Any]]:
    """Make a step's result weigh nothing: zero samples, zero logged."""
    loss, sample_size, logged = stepped
    return loss * 0, sample_size * 0, {key: value * 0 for key, value in logged.items()}


def _end_on_bad_audio(sample: dict[str, Any]) -> None:
    if "error" in sample:
        with one_line_errors():
            raise InputError(f"{sample['error']}; or set task.on_bad_audio=skip")


def lock_run(save_dir: str) -> Any:
    """Hold save_dir for this process until it ends, however it ends; returns the open lock file.

    Raises InputError when another process holds it: two runs would overwrite each other's checkpoints.
    """
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")  # noqa: SIM115  (the lock lives as long as the file is open)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise InputError(
            f"{folder.resolve()}: another run is writing here; stop it or set checkpoint.save_dir to another folder"
        ) from error
    return lock


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
