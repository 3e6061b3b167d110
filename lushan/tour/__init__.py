"""The tour: one page that shows the way of one picture through one network, to the answer.

from lushan import load
from lushan.tour import page

html = page(load("default"), "cat.jpg", "en")
"""

from lushan.tour.data import page_data
from lushan.tour.page import page

__all__ = ["page", "page_data"]
