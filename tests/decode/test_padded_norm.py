"""Padded batches, as a GPU decodes, are one utterance at a time: with a group norm, a layer norm, in two threads."""

import threading

import pytest
import torch

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.decode.batching import batches_for
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.greedy import greedy
from ccc_w2v.decode.long_windows import windows_of
from ccc_w2v.decode.network import emit
from ccc_w2v.decode.padded_norm import UtteranceNorm, with_padded_batches
from ccc_w2v.decode.transcribe import DecodingOptions, transcribe
from tests.tiny_ctc import build_ctc, save

LENGTHS = (16_000, 15_999, 13_000, 14_444, 12_900, 16_000, 9_000)


def waves():
    generator = torch.Generator().manual_seed(3)
    return [0.1 * torch.randn(length, generator=generator) for length in LENGTHS]


@pytest.fixture(params=["default", "layer_norm"])
def loaded(request, test_set, tmp_path):
    settings = {"normalize": request.param == "layer_norm", "extractor_mode": request.param}
    saved = save(trainer_state(*build_ctc(test_set.parent, **settings)), tmp_path / "ctc.pt")
    return lambda: load_ctc(saved)


def test_a_padded_batch_is_each_utterance_alone(loaded):
    alone = [emit(loaded(), [wave])[0] for wave in waves()]
    model = with_padded_batches(loaded())
    assert max(map(len, batches_for(model, LENGTHS))) >= 6  # several lengths in one
    together = emit(model, waves())
    for left, right in zip(together, alone, strict=True):
        assert left.shape == right.shape
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
        assert greedy(left, model.blank) == greedy(right, model.blank)


def test_a_batch_is_bounded_with_its_padding(loaded):
    for batch in batches_for(with_padded_batches(loaded()), LENGTHS, 33_000):
        assert len(batch) * max(LENGTHS[position] for position in batch) <= 33_000


def test_half_precision_and_a_long_recording_stay_the_same(loaded, test_set, tmp_path):
    manifest = read_manifest(test_set)
    assert max(entry.samples for entry in manifest.entries) > 8000  # two windows
    for dtype in (torch.float32, torch.bfloat16):
        texts = []
        for number, model in enumerate((loaded(), with_padded_batches(loaded()))):
            model.network.to(dtype)
            options = DecodingOptions(windows=windows_of(model, 0.5, 0.2))
            texts.append(transcribe(model, manifest, tmp_path / f"{dtype}{number}.jsonl", {}, options).texts)
        assert texts[0] == texts[1]


def test_threads_have_each_their_own_utterances(loaded):
    model, results = with_padded_batches(loaded()), {}
    ready = threading.Barrier(2)

    def decode(name, order):
        ready.wait()
        results[name] = emit(model, [waves()[position] for position in order])

    orders = {"forward": range(len(LENGTHS)), "some": [2, 0, 6]}
    threads = [threading.Thread(target=decode, args=item) for item in orders.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, order in orders.items():
        for position, emission in zip(order, results[name], strict=True):
            torch.testing.assert_close(emission, emit(model, [waves()[position]])[0], atol=1e-5, rtol=0)


def test_without_padding_it_is_the_norm_itself():
    norm = torch.nn.GroupNorm(4, 4)
    values = torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(UtteranceNorm(norm, 10, 5)(values), norm(values))
