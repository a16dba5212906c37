"""How a delta is stored: one flat file a codec, one line in the catalogue."""
