"""The arguments that a workload accepts, refuses and derives."""

import json
from pathlib import Path

import pytest

from multicompute.errors import SpecError
from multicompute.sizing import Finetuning, Inference, Training
from multicompute.workloads.description import Workload, workload_of
from tests.unit.sizing.configs import PUBLISHED


def test_numbers_may_be_written_with_a_suffix_or_an_exponent() -> None:
    for params, tokens in (("70B", "2T"), ("70e9", "2e12"), (70e9, 2e12), (70_000_000_000, "2000b")):
        job = Training.model_validate({"params": params, "tokens": tokens})
        assert (job.params, job.tokens) == (70e9, 2e12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": -1, "tokens": 1e9}, "params=-1: must be more than 0"),
        ({"params": 1e9}, "tokens: missing: tokens that the model is trained on"),
        ({"params": 1e9, "tokens": 1e9, "precison": "bf16"}, "precison: unknown argument; did you mean precision?"),
        (
            {"params": 1e9, "tokens": 1e9, "precision": "bf8"},
            "precision='bf8': must be one of 'bf16', 'fp16', 'fp8' or 'fp32'",
        ),
        ({"tokens": 1e9}, "params: missing; write the parameters of the model, such as params=70e9"),
        ({"params": "many", "tokens": 1e9}, "params='many': must be a number, such as params=70e9"),
        ({"params": True, "tokens": 1e9}, "params=True: must be a number"),
        ({"params": float("nan"), "tokens": 1e9}, "params=nan: must be"),
        ({"params": 1e9, "tokens": 1e9, "mfu": 40}, "mfu=40: must be at most 1"),
        ({"params": 1e9, "tokens": 1e9, "layers": 3.5}, "layers=3.5: must be a whole number"),
        ({"params": 1e9, "tokens": 1e9, "zero": 4}, "zero=4: must be one of 0, 1, 2 or 3"),
        ({"params": 1e9, "tokens": 1e9, "heads": 7, "kv_heads": 2}, "kv_heads=2: must divide heads=7"),
        ({"params": 1e9, "active_params": 2e9, "tokens": 1e9}, "active_params=2e+09: must be at most params=1e+09"),
        (
            {"params": 1e9, "tokens": 1e9, "sparsity": 0.3, "pruning": "2:4"},
            "sparsity=0.3: must be 0.5 with pruning='2:4'",
        ),
        ({"config": "/none/config.json", "tokens": 1e9}, "config='/none/config.json': can't be read"),
    ],
)
def test_a_wrong_value_is_refused_with_the_field_and_what_it_accepts(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        Training.model_validate(arguments)
    assert str(error.value).startswith(message)
    assert len(str(error.value)) <= 300


def test_an_answer_is_not_longer_than_the_context() -> None:
    with pytest.raises(SpecError, match="output_tokens=9000: must be at most context=8192"):
        Inference(params=8e9, output_tokens=9000)


def test_a_workload_is_frozen_and_can_be_a_key() -> None:
    job = Training(params=7e9, tokens=1e12)
    with pytest.raises(ValueError, match="frozen"):
        job.tokens = 2e12
    assert {job: 1}[Training(params=7e9, tokens=1e12)] == 1
    assert Training.model_validate(job) is job


@pytest.mark.parametrize("kind", [Training, Finetuning, Inference])
def test_every_field_is_described_in_a_sentence(kind: type[Workload]) -> None:
    described = {name: field.description or "" for name, field in kind.model_fields.items()}
    assert [name for name, text in described.items() if not (text[:1].isupper() and text.endswith("."))] == []


@pytest.mark.parametrize(
    ("params", "layers", "hidden"), [(6.74e9, 32, 4096), (175e9, 96, 12288), (405.9e9, 126, 16384)]
)
def test_the_shape_guessed_from_the_parameter_count_is_near_that_of_published_models(
    params: float, layers: int, hidden: int
) -> None:
    shape = Training(params=params, tokens=1e9).shape
    assert shape.layers == pytest.approx(layers, rel=0.1)
    assert shape.hidden == pytest.approx(hidden, rel=0.1)
    assert shape.heads % 8 == 0
    assert "layers" in shape.assumed
    assert "hidden" in shape.assumed


def test_what_is_known_of_the_shape_is_not_guessed() -> None:
    shape = Training(params=70.55e9, tokens=1e9, layers=80, hidden=8192, heads=64, kv_heads=8, vocab=128256).shape
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.vocab) == (80, 8192, 64, 8, 128256)
    assert shape.assumed == ("ffn", "gated")
    # 28,672 in the model; the difference is the second embedding.
    assert shape.ffn == pytest.approx(28672, rel=0.05)


def test_a_mixture_is_shaped_by_its_active_parameters() -> None:
    job = Training(params=671e9, active_params=37e9, tokens=1e9)
    assert job.kind == "moe"
    assert job.shape.hidden == pytest.approx(7168, rel=0.1)
    assert (job.total_params, job.used_params) == (671e9, 37e9)


def test_a_configuration_gives_shape_and_parameters(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED["Mixtral 8x7B"].config))
    job = Training.model_validate({"config": path, "tokens": 1e12})
    assert job.total_params == pytest.approx(46.7e9, rel=0.005)
    assert job.used_params == pytest.approx(12.9e9, rel=0.005)
    assert job.assumed == ()
    assert job.to_dict()["assumed"] == []


def test_a_field_goes_before_the_configuration() -> None:
    job = Training.model_validate(
        {"config": PUBLISHED["Llama 3.1 8B"].config, "tokens": 1e9, "layers": 16, "params": 5e9}
    )
    assert job.shape.layers == 16
    assert job.total_params == 5e9


def test_an_input_embedding_of_its_own_costs_no_flops_where_it_is_known() -> None:
    shape = {"params": 15.65e9, "tokens": 1e9, "layers": 32, "hidden": 6144, "heads": 48, "vocab": 256000}
    known = Training.model_validate({**shape, "tied_embeddings": False})
    assert Training.model_validate(shape).multiplying_params == 15.65e9
    assert known.multiplying_params == 15.65e9 - 256000 * 6144


def test_structured_pruning_takes_parameters_away_and_other_pruning_does_not() -> None:
    assert Inference(params=8e9, sparsity=0.25).total_params == 6e9
    assert Inference(params=8e9, sparsity=0.25, pruning="unstructured").total_params == 8e9


@pytest.mark.parametrize(
    "job",
    [
        Training(params=70e9, tokens=2e12),
        Training.model_validate({"config": PUBLISHED["DeepSeek-V3"].config, "tokens": "14.8T", "precision": "fp8"}),
        Finetuning(params=8e9, tokens=1e9, method="qlora", rank=64, preemptions_per_day=0.5),
        Inference(params=8e9, context=4096, concurrency=16, tied_embeddings=True),
    ],
    ids=str,
)
def test_a_workload_survives_json(job: Training | Finetuning | Inference) -> None:
    arguments = json.loads(json.dumps(job.model_dump(mode="json")))
    assert workload_of(arguments) == job
    assert workload_of(arguments).shape == job.shape


def test_what_is_written_as_a_default_is_no_other_job() -> None:
    plain = Training.model_validate({"params": "70B", "tokens": "2T"})
    assert Training(params=70e9, tokens=2e12, seq_len=4096, zero=1).model_dump() == plain.model_dump()
    assert plain.model_dump() == {"task": "training", "params": 70_000_000_000, "tokens": 2_000_000_000_000}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "workload=5: must be a workload, such as Training("),
        ({}, "workload: task: missing; one of training, finetuning, inference"),
        ({"task": "train"}, "workload: task='train': no such task; one of training"),
        ({"task": "training", "params": "7B"}, "tokens: missing"),
        ({"task": "training", "tokens": 1, "config": {"layers": 2, "hidden": 4, "v_head_dim": 1}}, "config: "),
    ],
)
def test_what_is_no_workload_is_refused(value: object, message: str) -> None:
    with pytest.raises(SpecError) as error:
        workload_of(value)
    assert str(error.value).startswith(message)
