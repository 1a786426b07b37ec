"""Which arithmetic produced recorded rows: every scheme with every recipe, judged row by row.

The package is not called ``identify``: importing a module of it would put it in the place of the function
`qengine.identify`.
"""
