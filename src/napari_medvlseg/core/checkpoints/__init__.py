"""Checkpoints as users have them: the authors' files, the hub, and our bundles."""
