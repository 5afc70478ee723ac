"""What the interpreter of `tracelet run` imports first. It makes way for the sitecustomize that is there without it."""

from __future__ import annotations

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(os.path.dirname(os.path.dirname(_here)))

sys.path[:] = [one for one in sys.path if one != _here]
sys.path_importer_cache.pop(_here, None)
sys.path.insert(0, _root)  # our own package, wherever it was started from: the program's path is not complete yet
try:
    from tracelet.launcher import bootstrap
finally:
    sys.path.remove(_root)
bootstrap.arrange()

del sys.modules[__name__]
__import__(__name__)  # where there is none, this is the ImportError that `site` expects
