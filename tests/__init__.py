"""The tests. Folders are cut by behaviour; ``support`` holds the real servers that they run against."""
