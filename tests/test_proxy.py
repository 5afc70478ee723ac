"""A proxy answers as the object that it stands for."""

import copy
import pickle
import sys
import threading

import pytest

from tracelet.proxy import Proxy


class Named(Proxy):
    name = "ours"


def test_it_passes_on_all_other_attributes():
    """Also special ones that the original lacks."""
    proxy = Named(sys)
    assert ("ours", sys.path) == (proxy.name, proxy.path)
    assert not hasattr(proxy, "missing")
    assert not hasattr(proxy, "__deepcopy__")
    assert not hasattr(Named.__new__(Named), "anything")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_is_one_of_the_original(duplicate):
    proxy = Named(slice(1, 2))
    assert slice(1, 2) == duplicate(proxy)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("original", [sys, threading.Lock()])
def test_what_cannot_be_copied_says_so(duplicate, original):
    with pytest.raises(TypeError, match="cannot pickle"):
        duplicate(Named(original))
