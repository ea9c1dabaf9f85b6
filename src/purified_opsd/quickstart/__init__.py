"""`purified-opsd quickstart`: the paper in miniature on a processor with two cores."""
