"""Many slides: apply the stages of a recipe to all of them, on one machine or many, without repeating work.

listed     GLOB, CSV, QuPath project -> SlideEntry     plan       what is done with every slide
stages     tile, qc, predict, measure, export, report  one_slide  SlideEntry -> all stages, record, facts
check      what is checked before a run begins         results    where results go: a folder or any fsspec URL
processes  workers on this machine                     cluster    workers of Dask
runner     entries -> an executor -> run.json, summary

    RESULTS/
      run.json                        the newest run: settings, and the facts of every slide
      slides/NAME/outlines.geojson    and whatever else the stages make
      slides/NAME/claim.json          what it was made from
      slides/NAME/record.json         what came out: hashes, sizes, times, versions; written last
      slides/NAME.partial/            unfinished

Workers are sent paths and the recipe, and answer with a few facts; pixels and results never pass between processes.
"""
