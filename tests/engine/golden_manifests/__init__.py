"""Manifests of published models, written by hand at the sizes of their small test checkpoints."""

from tests.engine.golden_manifests.clip import clip
from tests.engine.golden_manifests.lxmert import lxmert
from tests.engine.golden_manifests.ofa import ofa
from tests.engine.golden_manifests.oscar import oscar_captioning
from tests.engine.golden_manifests.uniter import uniter_nlvr2, uniter_vcr
from tests.engine.golden_manifests.xvlm import xvlm_nlvr2, xvlm_vqa

BUILDERS = {
    "uniter_nlvr2": uniter_nlvr2,
    "uniter_vcr": uniter_vcr,
    "lxmert": lxmert,
    "oscar_captioning": oscar_captioning,
    "xvlm_vqa": xvlm_vqa,
    "xvlm_nlvr2": xvlm_nlvr2,
    "clip": clip,
    "ofa": ofa,
}

__all__ = [
    "BUILDERS",
    "clip",
    "lxmert",
    "ofa",
    "oscar_captioning",
    "uniter_nlvr2",
    "uniter_vcr",
    "xvlm_nlvr2",
    "xvlm_vqa",
]
