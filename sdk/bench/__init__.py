"""`tally bench`: what this engine does on this machine, bracketed by what the machine itself can do."""
