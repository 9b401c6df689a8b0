"""What each protocol says, and how it says it: tables of error codes, of parameters and of reasons to stop."""
