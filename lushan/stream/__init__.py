"""Pictures that come one after another: cameras, videos, raw frames.

A source gives frames with their times (``sources.py``: which one an address means; ``stills.py``,
``raw.py``, ``video.py``), a thread reads them ahead (``feed.py``), and ``watch.py`` answers.
"""
