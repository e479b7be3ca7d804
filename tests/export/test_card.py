from __future__ import annotations

import json

import pytest

from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.plain import to_plain
from ccc_w2v.errors import InputError
from ccc_w2v.export.card import Notes, SetScore, model_card, read_score
from ccc_w2v.training.health.history import VERDICTS, append_row
from ccc_w2v.training.run_record import RECORD, summary
from tests.export.conftest import GONE, OBJECTIVE, STYLES, finetuned_state, pretrained_state
from tests.tiny_models import TINY

REPORT = {"difference": 4.2e-7, "where": "layer 2 (recording 1)", "as_used": 3.1e-4, "recordings": 3}


def test_card_of_a_pretrained_model_says_how_it_was_trained():
    card = model_card(to_plain(pretrained_state()), REPORT, "my-model")
    assert "- updates: 1,000" in card
    assert "- audio processed, repetitions counted: 2.00 h" in card
    for key, value in {**OBJECTIVE, "augment": "augment.yaml"}.items():
        assert f"`{key}`: {value}" in card
    assert "4.2e-07, at layer 2 (recording 1)" in card
    assert 'Wav2Vec2Model.from_pretrained("my-model")' in card
    assert "2210.02592" in card
    assert "2006.11477" in card
    assert "Word error rate" not in card
    assert GONE not in card


def test_card_front_matter_is_yaml():
    yaml = pytest.importorskip("yaml")
    for make, pipeline in ((pretrained_state, "feature-extraction"), (finetuned_state, "automatic-speech-recognition")):
        _, front, _ = model_card(to_plain(make()), REPORT, "my-model").split("---\n", 2)
        assert yaml.safe_load(front)["pipeline_tag"] == pipeline


def test_snippet_of_the_card_is_python():
    for make in (pretrained_state, finetuned_state):
        card = model_card(to_plain(make()), REPORT, "my-model")
        compile(card.split("```python\n")[1].split("```")[0], "card", "exec")


def test_card_tells_the_feature_extractors_difference_only_where_there_is_one():
    assert "3.1e-04" in model_card(to_plain(finetuned_state("large")), REPORT, "m")
    assert "3.1e-04" not in model_card(to_plain(finetuned_state("base")), REPORT, "m")


def test_card_tells_recipe_and_configuration_and_what_the_exporting_person_adds():
    yaml = pytest.importorskip("yaml")
    notes = Notes(data="Prompts, 25 minutes", recipe="recipes/prompts", licence="cc-by-sa-4.0")
    card = model_card(to_plain(finetuned_state("large", mask_prob=0.4)), REPORT, "m", notes)
    assert "- data: Prompts, 25 minutes" in card
    assert "not recorded" not in card
    assert "- recipe: recipes/prompts\n" in card
    for line in ("`optimization.lr`: [0.0005]", "`optimizer._name`: adam", "`common.seed`: 1"):
        assert f"- {line}" in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-sa-4.0"
    assert "`cc-by-sa-4.0`" in card.split("## Licence")[1]
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    expected = {"_name": "wav2vec2", **TINY, **STYLES["large"]}
    # Of a checkpoint that is not trusted, convolutions are written out.
    expected["conv_feature_layers"] = str(parse_conv_layers(expected["conv_feature_layers"]))
    assert settings["encoder"] == {key: value for key, value in expected.items() if value != 12}
    assert settings["fine_tuning"].items() >= {"mask_prob": 0.4, "apply_mask": True, "normalize": True}.items()
    assert GONE not in card


def test_scores_are_tabled_and_what_is_unknown_stays_open():
    full = SetScore("clean", 0.055, (0.052, 0.058), 0.9, 2620, 52576, 0.018, "librispeech", "rapidfuzz 3")
    scores = [full, SetScore("other", 0.124)]
    card = model_card(to_plain(finetuned_state()), REPORT, "m", Notes(scores=scores))
    assert "| clean | 2,620 | 52,576 | 5.50% | 5.20% to 5.80% (90%) | 1.80% | librispeech | rapidfuzz 3 |" in card
    assert "| other | - | - | 12.40% | - | - | - | - |" in card


def test_a_score_file_is_read_whole(tmp_path):
    (tmp_path / "score.json").write_text(
        json.dumps(
            {
                "utterances": 2620,
                "wer": {"rate": 0.055, "units": 52576, "interval": [0.052, 0.058]},
                "cer": {"rate": 0.018},
                "bootstrap": {"level": 0.9},
                "normalization": "librispeech",
                "version": "rapidfuzz 3",
            }
        )
    )
    name = f"{tmp_path.name}/score.json"
    assert read_score(tmp_path / "score.json") == SetScore(
        name, 0.055, (0.052, 0.058), 0.9, 2620, 52576, 0.018, "librispeech", "rapidfuzz 3"
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"wer": 0.1}', '{"wer": {"rate": 0.1, "interval": [0]}}', json.dumps({"wer": {"rate": None}})],
)
def test_file_without_a_word_error_rate_is_refused(text, tmp_path):
    (tmp_path / "score.json").write_text(text)
    with pytest.raises(InputError, match=r"score\.json: no word error rate"):
        read_score(tmp_path / "score.json")


def test_card_says_what_the_runs_folder_says(tmp_path):
    start = {
        "after_update": 0,
        "command": ["/secret/place/train"],
        "code": {"ccc_w2v": "0.1.0", "commit": "abc", "changed": True},
        "versions": {"torch": "2.11.0"},
        "seed": 3,
        "devices": {"processes": 2, "device": "GPU"},
        "manifests": {"/secret/place/train.tsv": "0123456789abcdef"},
    }
    (tmp_path / RECORD).write_text(json.dumps({"starts": [start]}))
    finding = {"sentence": "loss is 9: too high"}
    append_row(tmp_path / VERDICTS, {"update": 50, "status": "watch", "findings": [finding]})
    card = model_card(to_plain(pretrained_state()), REPORT, "m", Notes(run=summary(tmp_path)))
    for line in (
        "code: ccc_w2v 0.1.0, commit abc with changes",
        "seed: 3",
        "data: train.tsv (SHA-256 0123456789ab)",
        "devices: 2 process(es) on GPU",
        "health: watch after update 50 (loss is 9: too high)",
    ):
        assert f"- {line}\n" in card
    assert "/secret" not in card
    assert "## The run" not in model_card(
        to_plain(pretrained_state()), REPORT, "m", Notes(run=summary(tmp_path / "no"))
    )
