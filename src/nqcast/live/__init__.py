"""The live road: bars that come in, forecasts and their outcomes that go out, and a page on loopback."""
