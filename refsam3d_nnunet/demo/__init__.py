"""`refsam3d demo`: nnU-Net's whole job on a synthetic torso, or on a data set of one's own."""
