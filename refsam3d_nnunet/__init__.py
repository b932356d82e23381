"""RefSAM3D for nnU-Net v2: segmentation of volumes by the names of their structures.

Python imports this package at every start (see `_autoload`), hence it imports nothing.
"""

import os as _os

__version__ = "0.1.0"

# In a source checkout that is not installed, planners/ and trainers/ lie beside this folder.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isfile(_os.path.join(_root, "planners", "refsam3d_planner.py")):
    __path__.append(_root)
