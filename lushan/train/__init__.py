"""Training: a folder of labelled pictures → a run folder, which is a model folder.

``trainer.py`` goes from the folder to the run; ``loop.py`` is the loop of steps and epochs. What a
step computes is not here: it is a program (``program.py`` says what the loop asks of it).
"""
