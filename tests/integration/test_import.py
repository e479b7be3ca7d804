"""A transformers folder, imported: pre-training with the ccc objective and fine-tuning start from its weights."""

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecEncoder
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.import_any import import_any
from ccc_w2v.export.huggingface import export_huggingface
from tests.export.conftest import pretrained_state
from tests.fake_corpora import write_corpus
from tests.integration.test_training import train, weights

# The demo's configuration with the sizes of test_training.TINY.
SETTINGS = {
    "conv_feature_layers": "[(16,10,5)] + [(16,3,2)]*4 + [(16,2,2)]*2",
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "conv_pos": 32,
    "conv_pos_groups": 8,
    "final_dim": 64,
    "latent_vars": 8,
    "layer_norm_first": True,
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A corpus, a checkpoint imported from a transformers folder, and the tensors that went into the folder."""
    folder = tmp_path_factory.mktemp("imported")
    audio = write_corpus(folder, [16000 + 500 * i for i in range(4)], "pretrain").parent / "audio" / "pretrain0.wav"
    write_corpus(folder, [16000], "pretrain_valid", seed=50)
    state = pretrained_state(**SETTINGS)
    state["cfg"]["task"]["normalize"] = True
    torch.save(state, folder / "checkpoint.pt")
    export_huggingface(folder / "checkpoint.pt", folder / "exported", [audio])
    import_any(folder / "exported", folder / "imported.pt", sample_audio=[audio])
    return folder, folder / "imported.pt", state["model"]


def test_pretraining_with_the_objective_goes_on_from_it(imported, tmp_path):
    corpus, checkpoint, tensors = imported
    still = ["optimization.max_update=1", "optimization.lr=[1e-12]", f"+checkpoint.finetune_from_model={checkpoint}"]
    done = train(corpus, tmp_path, *still)
    assert done.returncode == 0, done.stderr[-2000:]
    trained = weights(tmp_path)
    assert trained.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(trained[name], tensor, rtol=0, atol=1e-9)


def test_finetuning_starts_from_it(imported):
    _, checkpoint, tensors = imported
    cfg = OmegaConf.structured(
        Wav2Vec2CtcConfig(w2v_path=str(checkpoint), normalize=True, data=".", ddp_backend="c10d")
    )
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False, enum_to_str=True))
    cfg.update(blank_weight=0)
    model = Wav2VecEncoder(cfg, output_size=10).w2v_model
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
