"""What a forecast is worth, in numbers alone: metrics, baselines, significance, calibration; no torch, no picture."""
