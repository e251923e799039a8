"""What trading on the forecasts would have earned: no look-ahead, no overlap, costs paid, and how sure it is."""
