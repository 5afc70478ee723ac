"""The first import of an interpreter of `tracelet run`. It then imports the original sitecustomize, if any."""

from __future__ import annotations

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(os.path.dirname(os.path.dirname(_here)))

sys.path[:] = [path for path in sys.path if path != _here]
sys.path_importer_cache.pop(_here, None)
sys.path.insert(0, _root)  # find tracelet: the program's path is not complete yet
try:
    from tracelet.launcher import bootstrap
finally:
    sys.path.remove(_root)
bootstrap.arrange()

del sys.modules[__name__]
__import__(__name__)  # if there is none, `site` expects this ImportError
