"""Our load client beside other load generators, on the same requests to the same server: throughput, TTFT and TPOT."""
