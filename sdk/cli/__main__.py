"""`python -m tallystick.sdk.cli` is `tally`."""

from tallystick.sdk.cli import main

main()
