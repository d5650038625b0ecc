"""Following a chain: block by block, through reorganisations and lies, and whether the view is fresh."""
