"""What was not launched: each reason once, with its variants and models."""

from dataclasses import replace

from selector.publish.hosts.host_file import KeptVerdict
from selector.publish.matrix.matrix import matrix
from selector.publish.matrix.not_launched import NotLaunched, not_launched_on
from selector.publish.pages.wording import models_of
from tests.selector.launches import rounds
from tests.selector.publish.published import CT2, HOST, KEY, MODEL, SDPA, published

NO_GPU = "needs an NVIDIA GPU; this host has none"


def test_each_reason_stands_once() -> None:
    other = "shape:gpt2"
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0,)),
        *rounds(SDPA, replace(KEY, fingerprint="0" * 12), HOST, (1.0,), model=other),
    )
    verdicts = (
        KeptVerdict(label="turbomind:default", reasons=(NO_GPU,)),
        KeptVerdict(label="llamacpp:f16", reasons=("needs a 16-bit model",)),
        KeptVerdict(label="llamacpp:bf16", reasons=("needs a 16-bit model",)),
        KeptVerdict(label="ctranslate2:float32"),
        KeptVerdict(label=SDPA),
    )
    gpt2 = (
        KeptVerdict(label="turbomind:default", reasons=(NO_GPU, "needs an architecture that it knows; found gpt2")),
        KeptVerdict(label="llamacpp:f16", left_out="for an NVIDIA GPU only"),
        KeptVerdict(label="llamacpp:bf16", reasons=("needs a 16-bit model",)),
        KeptVerdict(label=SDPA),
    )
    labels = [judged.label for judged in verdicts]
    rows = matrix([replace(host, verdicts={MODEL: verdicts, other: gpt2})], order=labels).rows
    groups = not_launched_on(rows)
    assert groups == [
        NotLaunched(variants="turbomind:default", reason=NO_GPU, models=(other, MODEL)),
        NotLaunched(
            variants="turbomind:default", reason="needs an architecture that it knows; found gpt2", models=(other,)
        ),
        NotLaunched(variants="llamacpp:f16", reason="for an NVIDIA GPU only", models=(other,)),
        NotLaunched(variants="llamacpp:bf16", reason="needs a 16-bit model", models=(other,)),
        NotLaunched(variants="llamacpp", reason="needs a 16-bit model", models=(MODEL,)),
    ]
    assert [models_of(group, len(rows)) for group in groups[:2]] == ["every model", other]
    assert CT2 not in {square.label for row in rows for square in row.squares}
