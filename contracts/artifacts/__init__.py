"""What `tools/contracts.py` made of the contracts: one file each, for `tallystick.contracts.artifact`."""
