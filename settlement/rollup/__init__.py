"""A rollup of settlements: thousands of closes, transfers and deposits as one record, which anybody can prove wrong."""
