"""Applications that two play in a state channel: what an app is (`interface`), and the rules of those that ship."""
