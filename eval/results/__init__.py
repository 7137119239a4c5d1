"""The results of a run as their readers need them: read and checked, judged, and put into words and tables."""
