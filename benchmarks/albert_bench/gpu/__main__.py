"""python -m albert_bench.gpu"""

import sys

from .command import main

sys.exit(main())
