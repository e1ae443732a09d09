"""Writes launches one by one into a cache and says each run_id when it is committed. Started by tests, and killed.

python cache_writer.py CACHE FIRST COUNT
"""

import sys

from calibration.cache.cache import Cache
from tests.calibration.launches import measured

where, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Cache.open(where) as cache:
    print("ready", flush=True)
    for number in range(first, first + count):
        launch = measured(number)
        cache.add(launch)
        print(launch.run_id, flush=True)
