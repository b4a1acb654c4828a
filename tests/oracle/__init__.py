"""An oracle over `decide` alone: random lives of one request, judged by a truth of their own."""
