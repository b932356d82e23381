"""One HTML file about a cross-validation: `refsam3d report`."""
