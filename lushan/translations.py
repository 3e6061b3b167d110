"""Chinese for every message that an error or the command line can show.

Keys are the English templates exactly as they stand in the code; ``tests/test_translations.py``
reads the source and fails when one is missing here, or when the fields differ.
"""

CHINESE: dict[str, str] = {}
