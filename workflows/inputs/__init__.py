"""Your own data, at any stage: files to checked records, rejected rows counted (docs/own-data.md).

- `files`: which files a path names, their fingerprint, and their rows one by one; `formats` reads one file of each format and
  `compression` opens what is compressed.
- `fields`: values of a row by name or path, checked; `answers`: reference answers in the forms that data sets have.
- `rejects`: the loop from rows to records, and the error when every row is rejected; `ids`: the ids of problems and solutions.
- `problems`, `solutions`, `critiques`, `benchmarks`: one reader and one configuration section each.
- `labelled`: the layouts of labelled solutions, for solutions and benchmarks alike. A new layout is a line in its ``LAYOUTS``, or a
  function there where it needs more than names.
- `decontamination`: keeping benchmark problems out.
"""
