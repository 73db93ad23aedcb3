"""Your own data, at any stage: files to checked records, rejected rows counted (docs/own-data.md).

- `files`: which files a path names, their fingerprint, and their rows one by one; `formats` reads one file of each format, and
  `compression` opens what is compressed.
- `fields`: values of a row by name or path, checked; `names`: the names that data sets use; `answers`: reference answers.
- `rejects`: from rows to records, and the error when every row is rejected; `ids`: the ids of problems and solutions.
- `problems`, `solutions`, `critiques`, `benchmarks`: one reader and one configuration section each.
- `labelled`: rows with solutions and labels, which `solutions`, `benchmarks` and `critiques` share; `layouts`: those of public data sets
  (a new one is an entry in ``LAYOUTS`` there); `labels`: step labels as sources write them.
- `decontamination`: keeping benchmark problems out.
"""
