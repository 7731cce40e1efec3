"""GNU Radio blocks: thin shells around pure functions of `sdr`, embedded in the .grc files beside this folder."""
