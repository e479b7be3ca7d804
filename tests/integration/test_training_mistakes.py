"""A user's mistakes through fairseq-hydra-train: one line and exit code 2, in pre-training and in fine-tuning."""

import shutil

import pytest
import soundfile
import torch

from ccc_w2v.checkpoint.plain import export_plain
from ccc_w2v.training.run_lock import lock_run
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels
from tests.integration.test_training import ROOT, TINY, command

# Linux lets nobody write there, root included.
UNWRITABLE = "/sys/ccc_w2v"
# More than any machine's memory holds.
SEASON = 100 * 24 * 3600 * RATE


def prepare(folder):
    write_corpus(folder, [16000 + 500 * i for i in range(12)], "pretrain")
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    for name in ("train", "valid"):
        manifest = write_corpus(folder, [16000 + 500 * i for i in range(6)], name)
        write_labels(manifest, ["one two", "two", "three one", "two one", "one", "three"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


@pytest.fixture
def corpus(prepared, tmp_path):
    """A copy to break."""
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    for manifest in data.glob("*.tsv"):
        manifest.write_text(manifest.read_text().replace(str(prepared), str(data)))
    return data


@pytest.fixture(scope="module")
def pretrained(warm, prepared, tmp_path_factory):
    """The checkpoint of one update, as the plugin writes it."""
    folder = tmp_path_factory.mktemp("pretrained")
    code, output = warm.run(command(prepared, folder / "run", "optimization.max_update=1")[1:], folder / "log")
    assert code == 0, output[-2000:]
    return folder / "run" / "checkpoints" / "checkpoint_last.pt"


def finetuning(corpus, folder, checkpoint, *overrides):
    """Arguments of a tiny fine-tuning with fairseq's own task, without common.user_dir."""
    return [
        *("--config-dir", str(ROOT / "recipes/prompts/config"), "--config-name", "finetune"),
        *(f"hydra.run.dir={folder}", f"task.data={corpus}", f"model.w2v_path={checkpoint}"),
        *("dataset.train_subset=train", "optimization.max_update=2", "dataset.disable_validation=true"),
        *("common.tensorboard_logdir=null", "dataset.max_tokens=64000", "model.mask_channel_length=3", *overrides),
    ]


def assert_one_line(code, output, message):
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 2, output[-3000:]
    assert len(errors) == 1, errors
    assert message in errors[0], errors
    assert "Traceback" not in output


def rewrite(path, old, new):
    path.write_text(path.read_text().replace(old, new))


BROKEN_FILES = {
    "missing manifest": (lambda data, file: (data / "pretrain.tsv").unlink(), "pretrain.tsv: no such manifest"),
    "empty manifest": (lambda data, file: (data / "pretrain.tsv").write_text(f"{data}/audio\n"), "lists no audio"),
    "missing file": (lambda data, file: file.unlink(), "pretrain.tsv:5: "),
    "empty file": (lambda data, file: file.write_bytes(b""), "pretrain.tsv:5: "),
    "truncated": (lambda data, file: file.write_bytes(file.read_bytes()[:9000]), "pretrain.tsv:5: "),
    "longer than declared": (
        lambda data, file: soundfile.write(file, speech_like(20000, 0), RATE),
        "20000 samples, the manifest declares 17500",
    ),
    "rate": (lambda data, file: soundfile.write(file, speech_like(17500, 0), 8000), "sample rate 8000 Hz"),
    "stereo": (lambda data, file: soundfile.write(file, speech_like(35000, 0).reshape(-1, 2), RATE), "2 channels"),
    "a season long": (
        lambda data, file: rewrite(data / "pretrain.tsv", "\t17500\n", f"\t{SEASON}\n"),
        "GiB are available; set task.max_sample_size (now None)",
    ),
    "two frames less one": (
        lambda data, file: rewrite(data / "pretrain.tsv", "\t17500\n", "\t719\n"),
        "the shortest crop has 719 samples, too few to mask; set task.min_sample_size (now 1)",
    ),
}
BROKEN_SETTINGS = {
    "too short": (["task.min_sample_size=50000"], "shorter than task.min_sample_size=50000"),
    "no folder": (["task.data=nowhere"], "nowhere: there is no such folder; expected the folder of pretrain.tsv"),
    "a file for a folder": (["task.data=log"], "/log: is a file"),
    "no data": (["task.data='???'"], "task.data has no value"),
    "no configuration": (["--config-name", "pertrain"], "no pertrain.yaml in /"),
    "unknown part": (["tusk.data=x"], "Could not override 'tusk.data'"),
    "no batch size": (["dataset.max_tokens=null"], "set dataset.max_tokens (in samples) or dataset.batch_size"),
    "user_dir": (["common.user_dir=no/ccc_w2v"], "common.user_dir=no/ccc_w2v: no such folder"),
    "type": (["task.min_sample_size=many"], "min_sample_size"),
    "augmentation": (["task.augment=papper"], "papper"),
    "criterion": (["+criterion.scale_factor=3"], "criterion.scale_factor"),
    "misspelt key": (
        ["+task.agument=none"],
        "'ccc_pretraining' has no setting 'agument'; did you mean 'augment'?",
    ),
    "ignored": (["+task.num_batch_buckets=4"], "task.num_batch_buckets=4: ccc_pretraining does not support it"),
    "fp16": (["common.fp16=true"], "common.fp16=true needs a GPU"),
    "amp": (["common.amp=true"], "common.amp=true needs a GPU"),
    "augmentation on a GPU": (["+task.augment_device=gpu"], "task.augment_device=gpu needs a GPU"),
    "GPUs": (["distributed_training.distributed_world_size=64"], "distributed_world_size=64, but this machine has"),
    "read-only checkpoints": ([f"checkpoint.save_dir={UNWRITABLE}"], f"checkpoint.save_dir={UNWRITABLE}: cannot be"),
    "read-only run": ([f"hydra.run.dir={UNWRITABLE}"], f"{UNWRITABLE}: cannot be written"),
    "memory": (["model.encoder_embed_dim=16384", "model.encoder_ffn_embed_dim=65536"], "out of memory"),
}
NEEDS_CPU = {"fp16", "amp", "augmentation on a GPU", "memory"}


def pretraining(corpus, folder, *overrides):
    return command(corpus, folder, "optimization.max_update=1", *overrides)[1:]


@pytest.mark.parametrize("broken", BROKEN_FILES)
def test_a_broken_corpus_is_one_line(warm, corpus, tmp_path, broken):
    act, message = BROKEN_FILES[broken]
    act(corpus, corpus / "audio" / "pretrain3.wav")
    sizes = ["task.max_sample_size=null", "task.min_sample_size=1", "dataset.max_tokens=null", "+dataset.batch_size=1"]
    if broken == "a season long":
        sizes.append("model.conv_feature_layers='[(512,10,5)] + [(512,3,2)]*4 + [(512,2,2)]*2'")
    arguments = pretraining(corpus, tmp_path / "run", *sizes, "+task.check_headers=12")
    assert_one_line(*warm.run(arguments, tmp_path / "log"), message)


def test_two_frames_are_enough(warm, corpus, tmp_path):
    write_corpus(corpus, [720, 720, 16000], "pretrain")
    sizes = ["task.max_sample_size=null", "task.min_sample_size=1", "dataset.max_tokens=null", "+dataset.batch_size=1"]
    limits = ["optimization.max_update=3", "+criterion.cluster_scope=utterance"]
    code, output = warm.run(command(corpus, tmp_path / "run", *sizes, *limits)[1:], tmp_path / "log")
    assert code == 0, output[-3000:]
    assert '"train_num_updates": "3"' in output
    assert '"nan"' not in output
    assert "nan s" not in output


@pytest.mark.parametrize("broken", BROKEN_SETTINGS)
def test_a_wrong_setting_is_one_line(warm, prepared, tmp_path, broken):
    overrides, message = BROKEN_SETTINGS[broken]
    environment = {"CUDA_VISIBLE_DEVICES": ""} if broken in NEEDS_CPU else {}
    memory = 2**30 if broken == "memory" else None
    arguments = pretraining(prepared, tmp_path / "run", *overrides)
    assert_one_line(*warm.run(arguments, tmp_path / "log", environment=environment, memory=memory), message)
    assert not list((tmp_path / "run").glob("checkpoints/*.pt"))


def test_a_gpu_without_enough_memory_ends_the_run_with_one_line(warm, prepared, tmp_path):
    """fairseq would leave the batch out, and every other one, for ever."""
    arguments = pretraining(prepared, tmp_path / "run")
    ended = warm.run(arguments, tmp_path / "log", before="tests.integration.warm_train:run_out_of_gpu_memory")
    assert_one_line(*ended, "out of memory (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.1 GiB); lower")
    assert not list((tmp_path / "run").glob("checkpoints/*.pt"))


@pytest.mark.parametrize("setting", ["model.w2v_path", "checkpoint.finetune_from_model"])
def test_a_hostile_checkpoint_is_one_line_and_nothing_of_it_is_run(warm, prepared, pretrained, tmp_path, setting):
    state = torch.load(pretrained, weights_only=True)
    payload = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    state["cfg"]["model"]["conv_feature_layers"] = f"[(16, 10, 5)] * (1 + bool({payload}))"
    torch.save(state, tmp_path / "hostile.pt")
    if setting == "model.w2v_path":
        arguments = finetuning(prepared, tmp_path / "run", tmp_path / "hostile.pt")
    else:
        arguments = pretraining(prepared, tmp_path / "run", f"+{setting}={tmp_path / 'hostile.pt'}")
    assert_one_line(*warm.run(arguments, tmp_path / "log"), "hostile.pt: model.conv_feature_layers: expected [(dim")
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*.pt"))


def test_a_folder_in_use_and_a_checkpoint_of_another_model_are_one_line(warm, prepared, pretrained, tmp_path):
    lock = lock_run(str(tmp_path / "run" / "checkpoints"))
    arguments = pretraining(prepared, tmp_path / "run")
    assert_one_line(*warm.run(arguments, tmp_path / "log"), "another run is writing here")
    lock.close()
    last = shutil.copy(pretrained, tmp_path / "run" / "checkpoints" / "checkpoint_last.pt")
    before = last.read_bytes()
    arguments = pretraining(prepared, tmp_path / "run", "model.encoder_ffn_embed_dim=96")
    assert_one_line(*warm.run(arguments, tmp_path / "log"), "it was trained with other model settings")
    assert last.read_bytes() == before


BROKEN_FINETUNING = {
    "dictionary": (lambda data: (data / "dict.ltr.txt").unlink(), "dict.ltr.txt: no such dictionary"),
    "labels": (lambda data: (data / "train.ltr").unlink(), "train.ltr: no such transcripts"),
    "count": (lambda data: (data / "train.ltr").write_text("o n e |\n"), "1 lines, but"),
    "rate": (
        lambda data: soundfile.write(data / "audio" / "train3.wav", speech_like(17500, 0), 8000),
        "sample rate 8000 Hz, expected task.sample_rate=16000 Hz",
    ),
    "manifest": (lambda data: (data / "train.tsv").unlink(), "train.tsv: no such manifest"),
    "checkpoint": (lambda data: None, "model.w2v_path=none.pt: no such checkpoint"),
}


@pytest.mark.parametrize("broken", BROKEN_FINETUNING)
def test_a_mistake_in_fine_tuning_is_one_line(warm, corpus, pretrained, tmp_path, broken):
    act, message = BROKEN_FINETUNING[broken]
    act(corpus)
    checkpoint = "none.pt" if broken == "checkpoint" else pretrained
    code, output = warm.run(finetuning(corpus, tmp_path / "run", checkpoint), tmp_path / "log")
    assert_one_line(code, output.replace(str(tmp_path / "none.pt"), "none.pt"), message)


@pytest.mark.parametrize("plain", [False, True], ids=["plugin", "plain"])
def test_fine_tuning_without_user_dir_can_be_resumed(warm, prepared, pretrained, tmp_path, plain):
    checkpoint = pretrained
    if plain:
        checkpoint = tmp_path / "plain.pt"
        export_plain(pretrained, checkpoint)
    for updates in (2, 3):
        arguments = finetuning(prepared, tmp_path / "run", checkpoint, f"optimization.max_update={updates}")
        code, output = warm.run(arguments, tmp_path / "log")
        assert code == 0, output[-3000:]
        assert f'"train_num_updates": "{updates}"' in output


def test_fine_tuning_refuses_a_recording_that_no_memory_holds(warm, corpus, pretrained, tmp_path):
    rewrite(corpus / "train.tsv", "\t17500\n", f"\t{SEASON}\n")
    arguments = finetuning(corpus, tmp_path / "run", pretrained, "dataset.max_tokens=null", "dataset.batch_size=2")
    message = "GiB are available; set dataset.max_tokens (now None) to the longest utterance to keep"
    assert_one_line(*warm.run(arguments, tmp_path / "log"), message)


def test_a_channel_mask_that_fairseq_cannot_always_draw_is_refused_at_the_start(warm, prepared, pretrained, tmp_path):
    arguments = finetuning(prepared, tmp_path / "run", pretrained, "model.mask_channel_length=4")
    message = "model.mask_channel_prob=0.1 of 32 channels is less than one span of model.mask_channel_length=4"
    assert_one_line(*warm.run(arguments, tmp_path / "log"), message)


def test_paths_are_taken_from_the_folder_of_the_command(warm, corpus, tmp_path):
    (tmp_path / "mine.yaml").write_text("transforms: [{name: background_noise}]")
    relative = ["task.augment=mine.yaml", "task.noise_manifest=data/pretrain_valid.tsv", "common.user_dir=null"]
    arguments = pretraining("data", tmp_path / "run", *TINY, *relative)
    code, output = warm.run(arguments, tmp_path / "log", cwd=tmp_path)
    assert code == 0, output[-3000:]
