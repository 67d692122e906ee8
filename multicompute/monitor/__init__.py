"""Looks at what clusters do and cost; changes nothing by itself."""
