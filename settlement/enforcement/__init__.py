"""What a node must do on chain for its channels, and when."""
