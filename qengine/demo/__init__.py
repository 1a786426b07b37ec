"""A tour of the ±1 story in live numbers: for the terminal (``qengine demo``) and as a notebook (``tour.ipynb``)."""
