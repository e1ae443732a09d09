"""Each engine's TTFT and TPOT as a worker times them, beside a plain loop and the engine's own figures."""
