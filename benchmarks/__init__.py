"""What the contract costs beside the bare queue library: `make bench`, and `make instructions`."""
