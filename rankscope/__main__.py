"""`python -m rankscope`, the same as the console script."""

from rankscope.cli.app import main

main()
