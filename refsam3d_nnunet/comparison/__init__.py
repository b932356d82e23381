"""Paired comparison of evaluated methods: `refsam3d compare`."""
