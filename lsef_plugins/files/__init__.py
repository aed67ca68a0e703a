"""What a file is, judged by its bytes before a decoder meets it; and where a path leads. Standard library only."""
