"""`python -m lpz_cli`: the `lpz` command."""

from lpz_cli.entry import main

main()
