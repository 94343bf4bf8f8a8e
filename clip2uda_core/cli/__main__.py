"""`python -m clip2uda_core.cli`, where the command is not on the path."""

from clip2uda_core.cli import main

main()
