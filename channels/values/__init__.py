"""What values may be: arguments of programs checked at the door, and structs that never show their secrets."""
