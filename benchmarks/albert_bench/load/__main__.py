"""`python -m albert_bench.load`."""

import sys

from .ladder import main

sys.exit(main())
