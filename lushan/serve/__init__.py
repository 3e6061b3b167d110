"""Recognition over HTTP: a service that stays upright whatever is sent to it.

``app`` has the routes, ``pipeline`` the way of a picture from its bytes to its scores, ``batching``
the engine's thread, ``open_inference`` the protocol that other servers speak too. Needs the extra
``serve``; nothing else in lushan imports it but the command line.
"""
