"""What there is to read: of this machine, of AWS, of the other instances. Each read may fail alone."""
