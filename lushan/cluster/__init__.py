"""Pictures by the million, on as many machines as there are: ``lushan batch``.

It needs the extra ``cluster`` (Ray, pyarrow), of which only ``ray_pool`` imports Ray.
"""
