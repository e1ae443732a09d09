"""Results of hosts, made in code, as the pages show them."""

from dataclasses import replace

from calibration.measurement import FailureKind, Outcome
from calibration.registry import all_backends
from selector.evidence.identity import environment_of
from selector.publish.hosts.host_file import HostResults, KeptVerdict
from selector.publish.matrix.matrix import Matrix, matrix
from tests.selector.launches import DAY, LOSSY, failure, model_and_host, rounds

MODEL = "shape:smollm2-135m"
SPEC, HOST, KEY = model_and_host(MODEL)
CT2, SDPA, EAGER = "ctranslate2:float32", "transformers:sdpa", "transformers:eager"
CHAT = "pp512:tg128:b1"
CELL = "pp512:tg32:b1"


def published(*outcomes: Outcome, verdicts: tuple[KeptVerdict, ...] = (), host: str = HOST.identifier) -> HostResults:
    return HostResults(
        host=host,
        device=HOST.device.name,
        device_kind=HOST.device.kind,
        machine="AMD EPYC 7763, 2 cores, 24.0 GiB",
        published_at=DAY,
        environments={name: environment_of(b, HOST) for name, b in all_backends().items()},
        verdicts={MODEL: verdicts},
        outcomes=outcomes,
    )


def small(message: str = "no memory", reason: str = "needs an NVIDIA GPU; this host has none") -> Matrix:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
        *rounds(EAGER, KEY, HOST, (1.01, 1.01)),
        *[
            replace(m, prepare_s=9.25, artifact_bytes=1 << 28)
            for m in rounds("ctranslate2:int8", KEY, HOST, (0.5, 0.5), agreement=LOSSY)
        ],
        failure(CT2, KEY, HOST, kind=FailureKind.OUT_OF_MEMORY, message=message),
        verdicts=(
            KeptVerdict(label="turbomind:default", reasons=(reason,)),
            KeptVerdict(label=CT2),
            KeptVerdict(label="ctranslate2:int8", left_out="lossy (--allow-lossy)"),
            KeptVerdict(label=SDPA),
            KeptVerdict(label=EAGER),
        ),
    )
    host = replace(host, batching={"ctranslate2:int8": "one after another", SDPA: "static"})
    return matrix([host], order=["turbomind:default", CT2, "ctranslate2:int8", SDPA, EAGER])
