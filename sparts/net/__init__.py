"""What servers of every kind share: bound sockets, TLS, the options that ask for them."""
