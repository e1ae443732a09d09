import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.cache.cache import Cache
from calibration.race.ladder.beliefs import Observation
from calibration.rung import Rung
from calibration.workload import Workload, grid
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec
from selector.predict.beliefs import beliefs_of
from selector.predict.prediction import Prediction, predict
from tests.selector.conftest import A100, host
from tests.selector.launches import cpu_host, measurement

LABELS = ("transformers:sdpa", "openvino:fp16-pa", "openvino:int8-pa", "onnxruntime:int4", "llamacpp:bf16")
CHAT = Workload.parse("chat")


@pytest.fixture(scope="module")
def llama() -> ModelSpec:
    return ModelSpec.read("shape:llama-3.2-1b")


@pytest.fixture
def here() -> HostSpec:
    return cpu_host()


def test_every_candidate_has_times_with_an_interval(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    prediction = predict(llama, here, LABELS, CHAT, cache=cache)
    assert prediction is not None
    assert sorted(p.candidate for p in prediction.predicted) == sorted(LABELS)
    assert sum(p.p_best for p in prediction.predicted) == pytest.approx(1.0)
    for predicted in prediction.predicted:
        assert predicted.e2e_s == pytest.approx(predicted.ttft_s + 127 * predicted.tpot_s)
        assert predicted.ci90[0] < predicted.e2e_s < predicted.ci90[1]
    assert [p.e2e_s for p in prediction.predicted[1:]] == sorted(p.e2e_s for p in prediction.predicted[1:])
    assert 1.0 <= prediction.expected_regret < 1.5
    assert "AMD EPYC (zen3), 2 cores" in prediction.hosts
    assert "shape:gpt2" in prediction.models


def test_one_token_takes_the_time_to_the_first(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    prediction = predict(llama, here, LABELS, Workload.parse("pp512:tg1"), cache=cache)
    assert prediction is not None
    assert all(p.e2e_s == p.ttft_s and p.tpot_s == 0.0 for p in prediction.predicted)


def test_nothing_is_predicted_where_nothing_like_it_is_known(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    assert predict(llama, host(devices=(A100,)), LABELS, CHAT, cache=cache) is None
    assert predict(llama, here, ["turbomind:default", "fake:plain"], CHAT, cache=cache) is None


def test_nothing_is_predicted_of_a_quantised_checkpoint(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    quantised = replace(llama, quant=QuantFormat(method="gptq", bits=4))
    assert predict(quantised, here, LABELS, CHAT, cache=cache) is None
    assert beliefs_of(quantised, here, LABELS, [Rung(layers=16, of=16)], grid(), cache=cache) is None


def test_a_backend_that_was_never_timed_is_left_out(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    prediction = predict(llama, here, [*LABELS, "fake:plain"], CHAT, cache=cache)
    assert prediction is not None
    assert "fake:plain" not in {p.candidate for p in prediction.predicted}


def test_own_launches_of_another_model_move_what_is_expected(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    """Where llama.cpp turned out three times slower with one model, it is expected to be slow with the next."""
    before = predict(llama, here, LABELS, CHAT, cache=cache)
    smaller = ModelSpec.read("shape:smollm2-135m")
    expected = predict(smaller, here, LABELS, CHAT, cache=cache)
    assert expected is not None
    seconds = {p.candidate: p.e2e_s for p in expected.predicted}
    slow = 3 * seconds["llamacpp:bf16"] / seconds["openvino:fp16-pa"]
    key = identity(smaller, here)
    for label, times_slower in (("llamacpp:bf16", slow), ("openvino:fp16-pa", 1.0)):
        cache.add(*(measurement(label, key, here, slow=times_slower, round_=r) for r in (1, 2, 3)))
    after = predict(llama, here, LABELS, CHAT, cache=cache)
    assert _share(after, "llamacpp:bf16") > 1.5 * _share(before, "llamacpp:bf16")


def test_a_launch_on_a_few_layers_moves_the_whole(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    few, whole = Rung(layers=4, of=16), Rung(layers=16, of=16)
    beliefs = beliefs_of(llama, here, LABELS, [few, whole], grid(), cache=cache)
    assert beliefs is not None
    assert beliefs.mean.shape == (len(LABELS), 2, 4, 2)
    assert np.linalg.eigvalsh(beliefs.covariance).min() > 0
    cell = grid()[0]
    shallow, deep = (beliefs.place("llamacpp:bf16", rung, cell, 1) for rung in (few, whole))
    expected = math.exp(beliefs.mean.ravel()[shallow])
    launch = Observation(label="llamacpp:bf16", rung=few, round=1, times={cell: (1.0, 3 * expected)})
    given = beliefs.given([launch])
    moved = given.mean.ravel() - beliefs.mean.ravel()
    assert moved[deep] > 0.3
    assert given.covariance[deep, deep] < beliefs.covariance[deep, deep]


def test_beliefs_of_the_whole_agree_with_the_prediction(cache: Cache, llama: ModelSpec, here: HostSpec) -> None:
    cell = Workload.parse("pp512:tg32:b4")
    prediction = predict(llama, here, LABELS, cell, cache=cache)
    beliefs = beliefs_of(llama, here, LABELS, [Rung(layers=16, of=16)], [cell], cache=cache)
    assert prediction is not None and beliefs is not None
    for predicted in prediction.predicted:
        believed = np.exp(beliefs.mean[LABELS.index(predicted.candidate), 0, 0])
        assert believed == pytest.approx([predicted.ttft_s, predicted.tpot_s])


def test_nothing_is_believed_of_a_gpu(cache: Cache, llama: ModelSpec) -> None:
    assert beliefs_of(llama, host(devices=(A100,)), LABELS, [Rung(layers=16, of=16)], grid(), cache=cache) is None


def _share(prediction: Prediction | None, label: str) -> float:
    assert prediction is not None
    times = {p.candidate: p.e2e_s for p in prediction.predicted}
    return times[label] / times["openvino:fp16-pa"]
