"""`python -m albert_bench.load`."""

import sys

from .sweep import main

sys.exit(main())
