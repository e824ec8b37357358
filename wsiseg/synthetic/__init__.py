"""Generated kidney slides, whose ground truth is exact.

    ground   what changes slowly: tissue, medulla, infiltrate, scars, folds, pen, defocus   (coarse grid)
    anatomy  glomeruli, vessels, wide tubules, one by one                                    (list of profiles)
    locate   what lies at a place in µm: where(x, y)                                         (all of the above)
    paint    stain taken up at a place      nuclei   nuclei on it      stain   stain to light      optics   scanner
    slide    SlideSpec -> SyntheticSlide    svs      SyntheticSlide -> pyramidal TIFF
    annotator  ground truth -> what a person would annotate

Everything is a function of the seed and the absolute position in µm, so that any box can be drawn alone and a slide of
any size can be streamed. Nothing measured on such slides is a statement about kidneys.
"""

from wsiseg.synthetic.annotator import Annotator
from wsiseg.synthetic.slide import CLASSES, SlideSpec, SyntheticSlide, generate
from wsiseg.synthetic.svs import write_slide

__all__ = ["CLASSES", "Annotator", "SlideSpec", "SyntheticSlide", "generate", "write_slide"]
