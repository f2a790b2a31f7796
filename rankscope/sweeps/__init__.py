"""Several runs beside each other: their rows, trends over them, where their spectra cross."""
