"""The machine of one channel: what happens when. Sans-IO."""
