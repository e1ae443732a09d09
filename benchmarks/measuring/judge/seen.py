"""What a load generator saw of one run, in figures that all of them tell."""

from dataclasses import dataclass
from statistics import median

from calibration.load.sample import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Figures of a whole run: nothing is discarded. The throughput is of all tokens from the first request sent to the
    last token, as AIPerf and vllm bench have it. TTFT counts from when a request was sent.
    """

    tool: str
    requests: int
    failed: int
    output_tps: float
    ttft_p50_s: float
    tpot_p50_s: float


FIGURES = ("output_tps", "ttft_p50_s", "tpot_p50_s")


def seen_by_us(point: Point) -> Seen:
    """Our own figures of a whole run.

    Raises:
        ValueError: no request was answered.
    """
    answered = point.answered
    if not answered:
        raise ValueError(f"no request was answered: {point.failures[0] if point.failures else 'none was sent'}")
    span_s = max(a.last_s for a in answered) - min(a.sent_s for a in point.sample)
    return Seen(
        tool="ours",
        requests=len(point.sample),
        failed=len(point.failures),
        output_tps=sum(a.output_tokens for a in answered) / span_s,
        ttft_p50_s=median(a.chunks_s[0] - a.sent_s for a in answered),
        tpot_p50_s=median(a.tpot_s for a in answered if a.tpot_s is not None),
    )
