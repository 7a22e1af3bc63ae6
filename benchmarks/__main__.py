"""``python benchmarks`` is ``python benchmarks/compare.py``."""

from compare import main

main()
