"""The doors to everything outside: each translates foreign errors, and names a deadline on every call."""
