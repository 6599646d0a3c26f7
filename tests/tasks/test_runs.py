"""Whole runs on tasks of text, with a family that fits each: train, search, report, export."""

import gzip
import re
import shutil

import pandas as pd
import pytest
import torch
import yaml

import nasbench as nb
from nasbench.config import parse_config
from nasbench.errors import RequestError
from nasbench.experiment.checks import check
from nasbench.experiment.nesting import nest
from nasbench.experiment.parts import build_supernet, build_task
from nasbench.experiment.stages import execute
from nasbench.tasks.text import train_word_pieces
from tests.pretrained import write_bert

pytest.importorskip("tokenizers", reason="needs the extra text")
pytest.importorskip("sacrebleu", reason="needs the extra text")

COMMON = """
name: text
training: {epochs: 2, batch_size: 16, warmup_epochs: 0.5, num_threads: 1, monitor_every: 1,
           monitor_samples: 8, checkpoint_every: 1}
search: {algorithm: random, num_trials: 4, batch_size: 4}
resources: {workers: 0}
export: {targets: [safetensors, pt2]}
"""
SST2 = """
task: {name: sst2, options: {vocab_size: 120, max_length: 24}}
supernet: {family: encoder}
search: {objectives: [top1_error, num_macs]}
"""
LANGUAGE_MODEL = """
task: {name: language_model, options: {vocab_size: 270, sequence_length: 8}}
supernet: {family: decoder}
search: {objectives: [perplexity, num_macs]}
"""
MULTI30K = """
task: {name: multi30k, options: {vocab_size: 300, beam_size: 2}}
supernet: {family: seq2seq, options: {dropout: 0.1}}
evaluation: {validation_samples: 4}
search: {objectives: [cross_entropy, num_macs]}
export: {targets: []}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory, sentences):
    """Small files of each task."""
    root = tmp_path_factory.mktemp("data")
    for name in ("sst2", "text", "multi30k-en-de"):
        (root / name).mkdir()
    texts = iter(sentences(600, 0))
    for part, count in (("train", 64), ("dev", 16), ("test", 16)):
        lines = [f"{i % 2}\t{next(texts)}" for i in range(count)]
        (root / "sst2" / f"{part}.tsv").write_text("\n".join(["label\tsentence", *lines, ""]))
    written = "\n".join(next(texts) for _ in range(300))
    (root / "text" / "tinyshakespeare.txt").write_text(written)
    for part, count in (("train", 48), ("val", 8), ("test_2016_flickr", 8)):
        english = [next(texts) for _ in range(count)]
        for language, lines in (("en", english), ("de", [line.upper() for line in english])):
            file = root / "multi30k-en-de" / f"{part}.{language}.gz"
            file.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return root


def configuration(text, data, **changes):
    content = yaml.safe_load(COMMON)
    for section, settings in (yaml.safe_load(text) | changes).items():
        content[section] = {**content.get(section, {}), **settings}
    content["task"]["data_dir"] = str(data)
    return parse_config(content)


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A folder with a BERT and its tokenizer."""
    texts = (data / "sst2" / "train.tsv").read_text().splitlines()[1:]
    tokenizer = train_word_pieces([line.partition("\t")[2] for line in texts], 100)
    folder = tmp_path_factory.mktemp("bert")
    tokenizer.save(str(folder / "tokenizer.json"))
    return write_bert(folder, vocab_size=tokenizer.get_vocab_size(), max_length=30)


@pytest.mark.slow
def test_a_pretrained_network_runs_from_yaml(data, pretrained, tmp_path, nasbench):
    config = tmp_path / "tuned.yaml"
    content = configuration(SST2, data).model_dump(mode="json", exclude_defaults=True)
    content["supernet"] |= {"pretrained": str(pretrained), "order": "weights"}
    content["supernet"]["elastic"] = {"depth": [1, 2, 3], "layer*.num_heads": [2, 4]}
    content["training"] |= {"strategy": "instatune"}
    content["task"]["options"] = {"max_length": 24}
    config.write_text(yaml.safe_dump(content))
    code, out, _ = nasbench("profile", config)
    assert code == 0
    assert "depth: 1, 2, 3\nlayer1-3.num_heads: 2, 4\n" in out
    code, _, err = nasbench("run", config, "--out", tmp_path / "run")
    assert code == 0, err
    run = nb.load_run(tmp_path / "run")
    network = run.extract(run.pareto_front()[0].architecture.id)
    assert network.tokens.num_embeddings <= 100


def test_a_pretrained_network_of_text_brings_its_tokenizer(data, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").unlink()
    supernet = {"family": "encoder", "pretrained": str(tmp_path / "bert")}
    config = configuration(SST2, data, supernet=supernet)
    with pytest.raises(RequestError, match=r"there is no tokenizer '.*bert/tokenizer\.json'"):
        build_task(config)


def test_a_pretrained_network_has_to_be_of_the_family_that_is_named(data, pretrained):
    supernet = {"family": "decoder", "pretrained": str(pretrained)}
    config = configuration(LANGUAGE_MODEL, data, supernet=supernet)
    with pytest.raises(RequestError, match="becomes a supernet of the family 'encoder', not 'dec"):
        build_supernet(config, build_task(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (SST2, {"validation_top1_error [fraction]", "test_top1_accuracy [fraction]"}),
        (LANGUAGE_MODEL, {"validation_perplexity [per token]", "test_cross_entropy [nats]"}),
        (MULTI30K, {"validation_bleu [BLEU]", "test_bleu [BLEU]", "test_cross_entropy [nats]"}),
    ],
    ids=["sst2", "language_model", "multi30k"],
)
def test_a_run_ends_with_a_tested_front(text, columns, data, tmp_path):
    run = nb.Run(tmp_path / "run", configuration(text, data))
    check(run)
    execute(run)
    assert run.is_finished
    table = pd.read_csv(run.folder / "pareto.csv")
    assert columns <= set(table.columns)
    assert len(table) == 4
    tested = [column for column in columns if column.startswith("test_")]
    assert table[table["rank"] == 1][tested].notna().all().all()
    conditions = run.record["stages"]["report"].get("metric_conditions", {})
    assert ("|version:" in conditions.get("bleu", "")) == (text == MULTI30K)
    exported = list(run.folder.glob("export/*/*"))
    program = "decoder.pt2" if text == LANGUAGE_MODEL else "model.pt2"
    names = {"manifest.json", "config.json", "tokenizer.json", "weights.safetensors", program}
    assert {path.name for path in exported} == (names if run.config.export.targets else set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "metric"),
    [(SST2, "top1_accuracy"), (LANGUAGE_MODEL, "perplexity"), (MULTI30K, "cross_entropy")],
    ids=["sst2", "language_model", "multi30k"],
)
def test_a_run_becomes_a_ladder(text, metric, data, tmp_path):
    latency = {"engine": "eager", "num_warmup": 1, "num_repeats": 3}
    nesting = {"num_members": 3, "finetune": True, "epochs": 1}
    run = nb.Run(tmp_path / "run", configuration(text, data, nest=nesting, latency=latency))
    execute(run, ("train", "search"))
    model = nest(run)
    assert len(model.members) == 3
    for member in model.members:
        assert metric in member.test
        assert member.latency[model.devices[0]]["latency_ms"] > 0
    task = build_task(run.config)
    inputs = task.load("test", torch.arange(2)).inputs
    with torch.inference_mode():
        outputs = [model.at(number)(*inputs) for number in range(3)]
    assert not torch.equal(outputs[0], outputs[2])
    assert (run.folder / "ladder.png").exists()


class TestWhatDoesNotFit:
    def refused(self, data, tmp_path, text, **changes):
        run = nb.Run(tmp_path / "run", configuration(text, data, **changes))
        with pytest.raises(RequestError) as caught:
            check(run)
        assert list(tmp_path.iterdir()) == []
        return str(caught.value)

    def test_a_family_for_other_data_names_those_that_fit(self, data, tmp_path):
        said = self.refused(data, tmp_path, SST2, supernet={"family": "resnet"})
        assert "the family 'resnet' is not for data such as that of task 'sst2'" in said
        assert said.endswith("possible: encoder")

    def test_an_objective_that_the_task_does_not_measure(self, data, tmp_path):
        said = self.refused(
            data, tmp_path, LANGUAGE_MODEL, search={"objectives": ["top1_error", "num_macs"]}
        )
        assert "'top1_error' is not measured; possible: perplexity, cross_entropy" in said

    def test_an_unknown_option_of_the_task(self, data, tmp_path):
        options = {"name": "sst2", "options": {"vocabulary": 5}}
        said = self.refused(data, tmp_path, SST2, task=options)
        assert "task.options do not fit 'sst2'" in said
        assert "vocabulary" in said

    def test_a_setting_of_the_supernet_that_the_data_decides(self, data, tmp_path):
        supernet = {"family": "encoder", "options": {"vocab_size": 7}}
        said = self.refused(data, tmp_path, SST2, supernet=supernet)
        assert said == "supernet.options cannot set vocab_size, which the data decides"

    @pytest.mark.parametrize(("name", "place"), [("seed", "seed"), ("preset", r"supernet\.preset")])
    def test_a_setting_that_has_a_place_of_its_own(self, name, place, data, tmp_path):
        supernet = {"family": "encoder", "options": {name: 3}}
        said = self.refused(data, tmp_path, SST2, supernet=supernet)
        assert re.fullmatch(rf"supernet\.options cannot set {name}; set {place}", said)

    def test_an_unknown_setting_of_the_supernet(self, data, tmp_path):
        supernet = {"family": "encoder", "options": {"droput": 0.1}}
        assert "unknown setting of encoder 'droput'" in self.refused(
            data, tmp_path, SST2, supernet=supernet
        )
