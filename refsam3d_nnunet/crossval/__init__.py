"""Cross-validation as jobs: `refsam3d crossval`."""
