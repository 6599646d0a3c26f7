"""`python -m nasbench` is the console script `nasbench`."""

from nasbench.cli import main

main()
